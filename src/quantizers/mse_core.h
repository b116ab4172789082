// What an MseQuantizer consists of, for those in the library that keep packed rows in memory of
// their own: the KV cache, whose pages hold many heads.
#ifndef TURBOQUANT_SRC_QUANTIZERS_MSE_CORE_H_
#define TURBOQUANT_SRC_QUANTIZERS_MSE_CORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/quantizers/code_metric.h"
#include "turboquant/mse_quantizer.h"

namespace turboquant {

// Where encoded rows go: lanes counted from block 0 of `blocks`, and a scale beside each in the one
// of the two arrays that is not null. A decoder may be of another scale type than the encoder.
struct MseLanes {
  kernels::PackedBlocks blocks;
  uint16_t* scales_f16;
  float* scales_f32;
};

class MseCore;

// A row of one head for EncodeHeads.
struct MseHeadRow {
  const MseCore* core;
  const float* coordinates;
  double norm_squared;  // as the core's kernels sum it
  MseLanes into;
};

// A query's digits: high and low (null for one digit) are PaddedDim(dim) int8, zero behind dim.
struct QueryDigitRow {
  int8_t* high;
  int8_t* low;
};

// Vectors with a norm outside [2^-40, 2^40] are first multiplied by PowerOfTwo(-exponent), which is
// exact, so that the butterflies neither overflow nor lose bits. 0 where none is needed.
int PrescaleExponent(double norm);
float PowerOfTwo(int exponent);

// Immutable after Create; safe to share between threads. Tables of thresholds and levels are shared
// between copies, so that the heads of a model cost one rotation each.
class MseCore {
 public:
  // Errors: as MseQuantizer::Create.
  [[nodiscard]] static Result<MseCore> Create(const MseOptions& options);

  // The same quantizer with the random rotation of another stream. Shares the tables.
  // Errors: kInvalidArgument for a stream out of range.
  [[nodiscard]] Result<MseCore> WithStream(RandomStream stream) const;

  const MseOptions& options() const { return options_; }  // with defaults filled in
  Backend backend() const { return backend_; }
  const kernels::KernelTable& kernels() const { return *kernels_; }
  const Codebook& codebook() const;
  const Rotation& rotation() const { return *rotation_; }
  uint64_t fingerprint() const { return fingerprint_; }
  const kernels::EncodePlan& encode_plan() const { return encode_plan_; }
  const kernels::ScorePlan& score_plan() const;

  double growth() const;      // of the unnormalised rotation: p^(rounds/2) for a power-of-two dim
  double sigma_step() const;  // a level on the unit sphere's scale: codebook step / sqrt(dim)

  // Encodes rows [first_row, first_row + count) into zero lanes from first_lane on.
  // norms_squared[count], if known, is what this table's norms_squared says of f32 rows. `metric`,
  // if not null, moves the codes of rows under one Hadamard round and an unbiased scale. Errors,
  // naming `name`[row]: kNonFinite, kNotUnitNorm, kInvalidArgument for a scale that does not fit;
  // lanes written before the error are left as they are.
  [[nodiscard]] Result<void> EncodeLanes(std::string_view name, const RowsView& rows,
                                         size_t first_row, size_t count, const MseLanes& into,
                                         size_t first_lane, const double* norms_squared = nullptr,
                                         CodeMetric* metric = nullptr) const;

  // The same of at most kMaxHeadRows rows that each have a core of their own, all made of one by
  // WithStream, and memory of their own, but one lane. Hadamard rotations only.
  static constexpr size_t kMaxHeadRows = 16;
  [[nodiscard]] static Result<void> EncodeHeads(std::string_view name,
                                                std::span<const MseHeadRow> rows, size_t lane);

  // Undoes EncodeLanes for `count` lanes: out = scale · centroids, rotated back if `rotate_back`.
  void DecodeLanes(const MseLanes& from, size_t first_lane, size_t count, bool rotate_back,
                   const MatrixView<float>& out) const;

  // Rotates a query of dim() finite floats in place, scaled by growth(), which the factor of
  // QueryDigits takes back. Callers prescale (PrescaleExponent).
  void RotateQuery(float* query) const;

  // The transpose in place, scaled by growth() as well: what went through RotateQuery comes back
  // times growth()², and DecodeLanes divides its factors by growth() beforehand.
  void RotateBack(float* row) const;

  // Rounds a query rotated by RotateQuery to digits. Returns what an integer sum of levels times
  // digits, times the row's scale, is multiplied by: 0 for a zero query.
  double QueryDigits(const float* rotated, const QueryDigitRow& digits) const;

  // The same of queries as they come, of a Hadamard rotation: into `frame`, rotated and rounded;
  // queries.largest becomes what QueryDigits returns. scratch [dim].
  void FramedQueryDigits(const kernels::FramePlan& frame, const kernels::FramedQueries& queries,
                         float* scratch) const;

  // Bytes held by this head's rotation, and by the tables that all heads share, as allocated.
  size_t RotationBytes() const { return rotation_bytes_; }
  size_t TableBytes() const { return table_bytes_; }

 private:
  struct Tables;
  struct Chunk;

  MseCore() = default;
  [[nodiscard]] Result<void> MakeRotation();
  double PerLevel(float largest, bool two_digits) const;
  double grid_gain() const;   // grid = rotated coordinate · grid_gain / norm
  double inner_step() const;  // sum z·level times this is <u, c>
  void UseTables();           // with the rotation of this stream
  [[nodiscard]] Result<void> ReadChunk(std::string_view name, const RowsView& rows, size_t row,
                                       const double* norms_squared, Chunk& chunk) const;
  void Prescale(Chunk& chunk) const;
  void EncodeChunk(Chunk& chunk, const kernels::PackedBlocks& into, size_t first_lane) const;
  [[nodiscard]] Result<void> EncodeByMetric(std::string_view name, size_t first_row, Chunk& chunk,
                                            const MseLanes& into, size_t first_lane,
                                            CodeMetric& metric) const;
  [[nodiscard]] Result<void> CheckUnitNorm(std::string_view name, size_t r, double norm) const;
  bool HasScale(const kernels::RowSums& sums) const;  // of a row that is not zero
  void FindScales(Chunk& chunk) const;
  std::unexpected<Error> NoScale(std::string_view name, size_t r, double norm,
                                 const kernels::RowSums& sums) const;

  MseOptions options_;
  Backend backend_ = Backend::kScalar;
  const kernels::KernelTable* kernels_ = nullptr;
  std::shared_ptr<const Tables> tables_;      // of all streams
  std::shared_ptr<const Rotation> rotation_;  // shared with copies: encode_plan_ points into it
  size_t table_bytes_ = 0;
  size_t rotation_bytes_ = 0;
  kernels::EncodePlan encode_plan_{};  // the tables' plan with this rotation
  uint64_t fingerprint_ = 0;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_MSE_CORE_H_
