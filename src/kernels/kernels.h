// The hot loops and what each of them means.
//
// Every kernel has one name and one definition: the plain loop of that name in reference.cc. All
// others equal it bit for bit ("exact"), which is why encoded bytes and scores don't depend on the
// CPU. What makes that possible:
//  - floats are only added, subtracted and multiplied, in the order stated here, never contracted;
//  - a rotated coordinate is rounded once to an integer grid, 1 sigma = 4096, and everything after
//    it (codes, sums, scores) is integer arithmetic;
//  - what the grid becomes at the end (a scale, a score) is a fixed sequence of float operations.
// Callers validate; kernels assert. Buffers a kernel reads in whole vectors say so.
#ifndef TURBOQUANT_SRC_KERNELS_KERNELS_H_
#define TURBOQUANT_SRC_KERNELS_KERNELS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "src/kernels/attention.h"
#include "turboquant/backend.h"

namespace turboquant::kernels {

// Integer grid of rotated coordinates: sigma = 1/sqrt(dim) is this many steps; a coordinate beyond
// 8 sigma saturates at +-kGridMax.
inline constexpr int kGridPerSigma = 4096;
inline constexpr int kGridMax = 32767;

// Two 7-bit digits of a query: 128·high + low, high in [-63, 63], low in [-64, 63].
inline constexpr int kTwoDigitMax = 127 * 64 - 1;  // 8127 = 63·128 + 63
inline constexpr int kOneDigitMax = 63;

// Largest dim whose scores of int8 levels are summed in int32: 2048 · 8127 · 127 < 2^31.
inline constexpr size_t kMaxInt32Dim = 2048;

// Pre-scales of the scale search as fractions of 2^14, 1.0 among them (algorithm.md).
inline constexpr int kCandidates = 16;
inline constexpr int kCandidateQ14[kCandidates] = {13107, 13599, 14090, 14582, 15073, 15565,
                                                   16056, 16384, 16876, 17367, 17859, 18514,
                                                   19169, 19825, 20644, 21299};
inline constexpr int kPlainCandidate = 7;  // of 1.0

// The fast rotation. One round on a row x of dim d, p the largest power of two <= d:
//   x_j = -x_j where sign_masks says so (all d); butterflies on x_0..x_{p-1}: for stride 1, 2, ...,
//   p/2, (a, b) -> (a + b, a - b);
//   and if p < d: multiply x_0..x_{p-1} by float(1/sqrt(p)); the same three steps with p further
//   sign masks on x_{d-p}..x_{d-1}; then the riffle, even indices first, then the odd ones.
// A power-of-two d is left unnormalised: the row has grown by p^(rounds/2), which the caller's next
// multiply takes back.
struct RotationPlan {
  size_t dim;
  int rounds;                  // 0: no rotation
  const uint32_t* sign_masks;  // per round dim (+ p if p < dim) words, 0 or 0x80000000
};

// What encode needs of a codebook.
struct EncodePlan {
  RotationPlan rotation;
  int bits;
  int candidates;  // 1: as it is; 16: scale search
  int codes;       // size of the codebook, <= 2^bits
  // thresholds[k * 256 + i]: with candidate k, code = #{i : z > thresholds[k * 256 + i]},
  // i < codes - 1, ascending; 32767 behind. Scaling by the candidate is folded into them (see
  // ScaledThreshold).
  const int16_t* thresholds;
  const int16_t* levels;  // 256, within +-kMaxLevel, zero behind the last
  // Even powers of two of codes, odd-symmetric levels within int8, and thresholds with
  // T[codes - 2 - i] == -T[i] - 1 and 0 in the middle: |z| decides.
  bool symmetric;
  // cells[k * 64 + c] for symmetric codebooks whose magnitude cells of 512 grid steps hold at most
  // one threshold each, c = min(|z|, 2^14 - 1) >> 9: the level index of the cell's lower end;
  // cells[k * 64 + 32 + c]: the threshold in it, 32767 where there is none. Else null.
  const int16_t* cells;
  // signed_cells[c] for up to 16 codes of int8 levels without a search, whose thresholds are within
  // 4 sigma and at most one to a cell of 1024 grid steps, c = bits 11 to 15 of y = 2z saturated to
  // int16: the code of the cell's lower end; signed_cells[32 + c]: twice the threshold in it, 32767
  // where there is none. Else null.
  const int16_t* signed_cells;
  // grid_codes[z + 2^15], 2^16 of them: the code of grid value z, not pre-scaled. Null where
  // NeedsGridCodes or MakeGridCodes is false.
  const uint8_t* grid_codes;
};

// Centroids are within 8 sigma, levels steps of 1/1024 sigma or more.
inline constexpr int kMaxLevel = 8192;

inline constexpr size_t kGridCodes = 65536;

// Fills grid_codes from plan.thresholds; false where candidates would need the grid to go on: a
// threshold at its upper end, which only pre-scaled values pass.
bool MakeGridCodes(const EncodePlan& plan, uint8_t* grid_codes);

inline constexpr int kCells = 32;
inline constexpr int kCellShift = 9;

// Fills cells (candidates × 64) from plan.thresholds; false where some cell has two thresholds.
bool MakeCells(const EncodePlan& plan, int16_t* cells);

inline constexpr int kSignedCellShift = 11;

// Fills signed_cells (64) from plan.thresholds; false where that is not possible.
bool MakeSignedCells(const EncodePlan& plan, int16_t* cells);

// Whether a backend finds this plan's codes by grid_codes (table_codes-inl.h).
inline bool NeedsGridCodes(const EncodePlan& plan, Backend backend) {
  return (backend == Backend::kAvx2 || backend == Backend::kNeon) &&
         (!plan.symmetric || plan.bits > 4);
}

// Threshold t on the grid under candidate q: (z·q + 2^13) >> 14 > t  <=>  z > result. Saturated to
// int16.
int16_t ScaledThreshold(int64_t threshold, int q14);

// Sums of one row over its coordinates, in grid and level units: exact.
struct RowSums {
  int64_t grid_level;   // sum z·level
  int64_t level_level;  // sum level²
};

// How well codes fit their row: squared cosine times the row's squared norm on the grid, or -1
// where the inner product is not positive. One double operation after another, the same everywhere.
inline double SquaredCosine(const RowSums& sums) {
  const double grid_level = static_cast<double>(sums.grid_level);
  const double cosine = grid_level * grid_level / static_cast<double>(sums.level_level);
  return sums.grid_level > 0 ? cosine : -1.0;
}

// Where encoded rows go: whole blocks, zeroed where nothing was written yet.
struct PackedBlocks {
  uint8_t* blocks;
  size_t dim;
  int bits;
  bool values;  // Tiling::kValues
};

// A row on its way to a lane.
struct EncodeRow {
  const EncodePlan* plan;
  const float* coordinates;
  float gain;  // 0 marks a zero row
  PackedBlocks into;
  size_t lane;  // counted from block 0; zero so far
};

// What score needs of a codebook: int8 levels in codes <= 16 or the 8-bit uniform codebook (level =
// code - 127), and otherwise int16 levels.
struct ScorePlan {
  size_t dim;
  int bits;
  int codes;
  const int16_t* levels;  // 256, zero behind the last
  bool int8_levels;
};

// What a query's coordinates are multiplied by so that the largest becomes digit_max. Bounded where
// the quotient would leave float: below 2^-115 a query's digits get smaller, and at last 0.
inline float QueryGain(float largest, int digit_max) {
  const double gain = static_cast<double>(digit_max) / static_cast<double>(largest);
  return static_cast<float>(std::min(gain, 0x1.fffffep127));
}

// Digits of queries: row q at q * stride, PaddedDim(dim) int8 each, zero behind dim, 32-byte
// aligned rows. low is null for one digit.
struct QueryDigits {
  const int8_t* high;
  const int8_t* low;
  size_t stride;
  size_t queries;
  const float* factors;  // per query: what an integer sum times a row's scale is multiplied by
};

// Scales beside blocks: one of the two is set.
struct RowScales {
  const uint16_t* f16;
  const float* f32;
};

// Rows of packed signs: sign j of row r is bit j of the little-endian stream at bytes + r ·
// row_bytes.
struct SignRowsView {
  const uint8_t* bytes;
  size_t row_bytes;
  size_t count;
};

// A matrix of rotations or sketches, or its transpose: entry (i, j) at i · row_stride + j ·
// column_stride.
struct DenseMatrix {
  const float* data;
  size_t rows;
  size_t dim;
  size_t row_stride;
  size_t column_stride;
};

struct KernelTable {
  Backend backend;

  // Of each row the sum of squares: 16 double accumulators, accumulator j % 16 takes x_j²
  // (multiply, then add) in order of j; then ((a0+a1)+(a2+a3)) + ... pairwise, as written in
  // reference.cc. Finite exactly if every x_j is. Fastest for several rows at once. Exact.
  void (*norms_squared)(const QueryRows<const float>& rows, size_t count, size_t dim,
                        double* norms_squared);

  // RotationPlan in place, and its transpose (up to the same power-of-two growth). Exact.
  void (*rotate)(const RotationPlan& plan, float* row);
  void (*rotate_inverse)(const RotationPlan& plan, float* row);

  // Of each row: rotate, z_j = round_to_even(y_j · gain) saturated, codes, pack. A zero row's lane
  // stays zero, its sums are 0. With candidates > 1 the codes of the candidate with the largest
  // grid_level²/level_level win, the first on a tie. Fastest where rows that follow each other have
  // plans of one kind and lie in lanes that do so too. Exact.
  void (*encode_rows)(const EncodeRow* rows, size_t count, RowSums* sums);

  // Digits of one rotated query: t_j = round_to_even(rotated_j · QueryGain) is 128·high + low with
  // digit_max 8127, or high alone with digit_max 63 where low is null. Writes PaddedDim(dim) of
  // each, zero behind dim; all zero for a zero query. Returns the largest |rotated_j|. Finite
  // input. Exact.
  float (*query_digits)(const float* rotated, size_t dim, int8_t* high, int8_t* low);

  // scores[q * score_stride + r] for the 16·blocks.count rows of key blocks:
  // (float(sum_j level_j · digit_j) · factors[q]) · scale_r, in this order. Exact.
  void (*score_keys)(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
                     const QueryDigits& queries, float* scores, size_t score_stride);

  // Codes of lanes [first_lane, first_lane + count) to bytes, row r at codes + r * dim. Exact.
  void (*unpack_codes)(const PackedBlocks& from, size_t first_lane, size_t count, uint8_t* codes);

  // out[j] = float(levels[codes[j]]) · factor, levels as in ScorePlan. Exact.
  void (*dequantize)(const ScorePlan& plan, const uint8_t* codes, float factor, float* out);

  // The reverse of unpack_codes, into zero lanes. Exact.
  void (*pack_codes)(const PackedBlocks& into, size_t first_lane, size_t count,
                     const uint8_t* codes);

  // Canonical bit streams of rows of `dim` codes, each from a byte on, to bytes and back (code j in
  // bits [j·b, (j+1)·b)); the padding bits of a row's last byte are ignored and written as zero.
  // Exact.
  void (*unpack_stream)(const uint8_t* stream, int bits, size_t rows, size_t dim, uint8_t* codes);
  void (*pack_stream)(const uint8_t* codes, int bits, size_t rows, size_t dim, uint8_t* stream);

  // sums[q][r] = sum of numbers[q][j] over the bits j that are set in row r: 16 float accumulators
  // from zero, accumulator j % 16 takes number j in order of j; then i with i + 8, + 4, + 2, + 1.
  // `numbers` are finite and hold 16·ceil(row_bytes / 2) each. Exact.
  void (*sum_where_set)(const SignRowsView& rows, const QueryRows<const float>& numbers,
                        size_t query_count, const QueryRows<float>& sums);

  // sums[v][i] = sum of entry (i, j) · vectors[v][j] over j, from zero, in double, one addition
  // after another in order of j. Fastest for many vectors at once. Exact.
  void (*multiply_dense)(const DenseMatrix& matrix, const QueryRows<const float>& vectors,
                         size_t count, const QueryRows<double>& sums);

  const AttentionKernels* attention;
};

// Of one row.
inline double NormSquared(const KernelTable& table, const float* row, size_t dim) {
  double norm_squared = 0.0;
  table.norms_squared({row, dim}, 1, dim, &norm_squared);
  return norm_squared;
}

// The kernels of a concrete backend, or null if this CPU or build lacks it. Never null for kScalar.
const KernelTable* FindKernels(Backend backend);

// Tables by source file; null where the CPU or the build lacks them.
const KernelTable* SimdKernels();    // AVX2 or NEON
const KernelTable* Avx512Kernels();  // AVX-512 with VNNI and VBMI
const KernelTable* AmxKernels();     // those, with tile products; see amx_support.h

// Why AmxKernels is null, as a phrase for an error; empty where it is not. The first call asks
// Linux for leave to use tiles, which the process then has for good. Thread-safe.
const std::string& AmxObstacle();

// What AmxKernels returns where nothing is in the way, whether or not this CPU has tiles; null
// without AVX-512. For tests that emulate the instructions.
const KernelTable* BuiltAmxKernels();

// The definitions.
namespace reference {

void NormsSquared(const QueryRows<const float>& rows, size_t count, size_t dim,
                  double* norms_squared);
void Rotate(const RotationPlan& plan, float* row);
// The transpose: undoes Rotate up to the same power-of-two growth.
void RotateInverse(const RotationPlan& plan, float* row);
int16_t ToGrid(float coordinate, float gain);
// Codes and sums of dim grid values under one candidate.
RowSums NearestCodes(const EncodePlan& plan, int candidate, const int16_t* grid, uint8_t* codes);
// The winning candidate's codes and sums.
RowSums SearchCodes(const EncodePlan& plan, const int16_t* grid, uint8_t* codes);
void EncodeRows(const EncodeRow* rows, size_t count, RowSums* sums);
float RoundQuery(const float* rotated, size_t dim, int8_t* high, int8_t* low);
void ScoreKeys(const ScorePlan& plan, const BlocksView& blocks, const RowScales& scales,
               const QueryDigits& queries, float* scores, size_t score_stride);
void UnpackCodes(const PackedBlocks& from, size_t first_lane, size_t count, uint8_t* codes);
void PackCodes(const PackedBlocks& into, size_t first_lane, size_t count, const uint8_t* codes);
void Dequantize(const ScorePlan& plan, const uint8_t* codes, float factor, float* out);
void UnpackStream(const uint8_t* stream, int bits, size_t rows, size_t dim, uint8_t* codes);
void PackStream(const uint8_t* codes, int bits, size_t rows, size_t dim, uint8_t* stream);
void MultiplyDense(const DenseMatrix& matrix, const QueryRows<const float>& vectors, size_t count,
                   const QueryRows<double>& sums);
// i with i + 8, + 4, + 2, + 1.
float AddLanes(const float (&lanes)[16]);
void SumWhereSet(const SignRowsView& rows, const QueryRows<const float>& numbers,
                 size_t query_count, const QueryRows<float>& sums);
extern const KernelTable kTable;

}  // namespace reference
}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_KERNELS_H_
