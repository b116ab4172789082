// The parts of a page and how rows get into and out of them (kv_format.h says where they lie).
#ifndef TURBOQUANT_SRC_CACHE_KV_PARTS_H_
#define TURBOQUANT_SRC_CACHE_KV_PARTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/quantizers/mse_core.h"
#include "turboquant/kv_format.h"
#include "turboquant/qjl.h"

namespace turboquant {

// Codes of one width with a scale a token. Rows of a side with outlier channels are permuted first,
// so that each part's channels follow each other; `first_channel` counts in that order.
struct KvPart {
  bool signs;            // of the residual that the part before left over (kProd)
  size_t first_channel;  // of the permuted row
  size_t dim;            // channels; for signs the rows of the sketch
  int bits;              // of a code
  size_t blocks_offset;  // in a head's bytes
  size_t blocks_bytes;
  size_t scales_offset;
  std::vector<MseCore> cores;        // one per KV head; of signs those of the part before, whose
                                     // rotation comes first
  std::vector<QjlSketch> sketches;   // one per KV head; signs only
  std::vector<int16_t> sign_levels;  // 256: +127, -127; signs only
  kernels::ScorePlan score;          // of every head
  // What a level times a scale is worth, on the scale of the row: codebook step / sqrt(dim), or the
  // sketch's constant / 127.
  double level_step;
};

struct KvSide {
  KvSideOptions options;
  std::vector<KvPart> parts;  // empty: unquantized
  size_t exact_offset;        // of the rows of an unquantized side in a head's bytes
  size_t exact_row_bytes;     // of such a row
  bool exact() const { return parts.empty(); }
};

struct KvFormat::Parts {
  KvFormatOptions options;
  Backend backend;
  const kernels::KernelTable* kernels;
  KvSide keys;
  KvSide values;
  size_t values_offset;  // where the values of a head begin
  size_t head_bytes;
  size_t head_scale_bytes;  // of them, in scales
  uint64_t fingerprint;
  size_t held_bytes;  // of all this, as allocated
};

// A query, framed and permuted ([head_dim]), as digits of one part: fills PaddedDim(part.dim) bytes
// of each digit row and returns what an integer sum times a row's scale is multiplied by. `scratch`
// is 2 head_dim floats.
double PreparePartQuery(const KvPart& part, size_t head, const float* query,
                        const QueryDigitRow& digits, float* scratch);

// Whether the side is codes of all channels behind a Hadamard rotation. Such sides encode a token
// of all heads at once (EncodeToken), and such keys, where the map has no full matrix, take queries
// into their frame and to digits in one go (PrepareFramedQueries).
bool IsOneHadamardPart(const KvSide& side);

// frame_query and PreparePartQuery in one go, for the only part of such a side: queries.largest
// becomes what PreparePartQuery returns, or 0 for a query that needs the long way.
void PrepareFramedQueries(const KvPart& part, size_t head, const kernels::FramePlan& frame,
                          const kernels::FramedQueries& queries, float* scratch);

// The other direction for sums of values, [part.dim] coordinates in units of scale · level: writes
// the part's channels of a permuted row.
void UnrotatePartSums(const KvPart& part, size_t head, const float* sums, float* permuted_row);

// Rows [count × head_dim], framed and permuted, into zero lanes of one head's bytes in a page;
// norms_squared[count] is null or what the kernels say of the rows.
// Errors, naming rows[r]: kNonFinite; kInvalidArgument for a scale or element that f16 does not
// hold. Lanes written before the error are left as they are. `metric`, if not null, decides on the
// codes (of a side of one part).
[[nodiscard]] Result<void> EncodeTokens(const KvSide& side, bool values, size_t head,
                                        const MatrixView<const float>& rows, size_t first_lane,
                                        std::byte* head_bytes,
                                        const double* norms_squared = nullptr,
                                        CodeMetric* metric = nullptr);

// EncodeTokens of one token, a framed row of every head and its squared norm as the kernels sum it,
// into a lane of a page; for sides that IsOneHadamardPart names.
[[nodiscard]] Result<void> EncodeToken(const KvFormat::Parts& parts, bool values,
                                       const kernels::QueryRows<const float>& rows,
                                       const kernels::QueryRows<const double>& norms_squared,
                                       size_t lane, std::byte* page_bytes);

// The reverse of EncodeTokens, out [count × head_dim] permuted and framed.
void DecodeTokens(const KvSide& side, bool values, size_t head, const std::byte* head_bytes,
                  size_t first_lane, size_t count, MatrixView<float> out);

// Zeroes lanes [first_lane, first_lane + count): codes, scales, exact rows.
void ClearTokens(const KvSide& side, bool values, size_t first_lane, size_t count,
                 std::byte* head_bytes);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_KV_PARTS_H_
