#include "src/webgpu/prod_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/webgpu/shader_constants.h"
#include "src/webgpu/shaders.h"

namespace turboquant::webgpu {
namespace {

constexpr size_t kSignsPerWord = 32;

uint32_t Words(size_t count) { return static_cast<uint32_t>(count); }

bool IsHadamard(const QjlSketch& sketch) {
  return !sketch.rotations().empty() &&
         sketch.rotations().front().options().kind == RotationKind::kHadamard;
}

// What takes back the growth of unnormalised rounds, as Rotation::Apply has it.
double RotationFactor(size_t dim, int rounds) {
  return std::has_single_bit(dim) ? std::pow(static_cast<double>(dim), -0.5 * rounds) : 1.0;
}

// The sketch's matrix, transposed: the projections of the unit vectors.
Result<std::vector<float>> TransposedMatrix(const QjlSketch& sketch) {
  const size_t dim = sketch.options().dim;
  const size_t rows = sketch.options().sketch_rows;
  std::vector<float> unit(dim);
  std::vector<float> matrix(dim * rows);
  for (size_t j = 0; j < dim; ++j) {
    unit[j] = 1.0f;
    TQ_CHECK(sketch.Project({unit.data(), 1, dim}, {matrix.data() + j * rows, 1, rows}));
    unit[j] = 0.0f;
  }
  return matrix;
}

}  // namespace

Result<std::shared_ptr<const ProdKernels>> ProdKernels::Make(Gpu& gpu, MseCore core,
                                                             const QjlSketch& sketch) {
  const size_t dim = sketch.options().dim;
  const size_t sign_words = CeilDivide(sketch.options().sketch_rows, kSignsPerWord);
  TQ_TRY(std::shared_ptr<const MseKernels> mse, MseKernels::Make(gpu, std::move(core), sign_words));
  if (!IsHadamard(sketch) &&
      dim * sketch.options().sketch_rows * sizeof(float) > gpu.limits().max_buffer_bytes) {
    return Fail(ErrorCode::kUnsupported, "a sketch matrix of ", sketch.options().sketch_rows, " × ",
                dim, " floats, the device's limit is ", gpu.limits().max_buffer_bytes, " bytes");
  }
  auto kernels = std::shared_ptr<ProdKernels>(new ProdKernels(std::move(mse)));
  TQ_TRY(const size_t tiles, RowsPerRun(gpu, 4 * sign_words * kSignsPerWord * sizeof(float)));
  kernels->queries_per_chunk_ = std::min(4 * tiles, kernels->mse().queries_per_chunk());
  TQ_CHECK(kernels->UploadTables(gpu, sketch));
  kernels->WriteShaders(sketch);
  return kernels;
}

Result<void> ProdKernels::UploadTables(Gpu& gpu, const QjlSketch& sketch) {
  const auto main = mse_->core().rotation().sign_masks();
  std::vector<uint32_t> table(main.begin(), main.end());
  if (IsHadamard(sketch)) {
    for (const Rotation& rotation : sketch.rotations()) {
      const auto masks = rotation.sign_masks();
      table.insert(table.end(), masks.begin(), masks.end());
    }
  } else {
    TQ_TRY(const std::vector<float> matrix, TransposedMatrix(sketch));
    for (const float x : matrix) table.push_back(std::bit_cast<uint32_t>(x));
  }
  TQ_TRY(masks_, gpu.MakeBuffer("sign masks and sketch", std::as_bytes(std::span(table))));
  return {};
}

void ProdKernels::WriteShaders(const QjlSketch& sketch) {
  const MseCore& core = mse_->core();
  const size_t dim = sketch.options().dim;
  const bool hadamard = IsHadamard(sketch);
  const int rounds = hadamard ? sketch.rotations().front().options().rounds : 0;
  const double root_dim = std::sqrt(static_cast<double>(dim));
  Constants constants = MseConstants(core, mse_->group());
  constants.Float("kRotationFactor", RotationFactor(dim, core.options().rotation_rounds))
      .Float("kCentroidStep", core.sigma_step())
      .Float("kEstimator", sketch.estimator_constant())
      .Word("kSketchRows", sketch.options().sketch_rows)
      .Word("kSignWords", sign_words())
      .Word("kSketchTable", core.rotation().sign_masks().size())
      .Word("kSketchRotations", sketch.rotations().size())
      .Word("kSketchRounds", static_cast<uint64_t>(rounds))
      .Float("kSketchFactor", RotationFactor(dim, rounds))
      .Float("kSketchLength", root_dim);
  const auto source = [&](std::initializer_list<std::string_view> parts) {
    std::string text = constants.text();
    for (const std::string_view part : parts) text += part;
    return text;
  };
  const std::string_view project = hadamard ? kProjectHadamard : kProjectDense;
  const std::string_view unproject = hadamard ? kUnprojectHadamard : kUnprojectDense;
  signs_ = {"encode_signs",
            source({kReal, kNormSquared, kRotate, kDirection, kCodes, project, kEncodeSigns})};
  prepare_ = {"project_queries",
              source({kReal, kNormSquared, kRotate, kDirection, project, kProjectQueries})};
  score_ = {"score_prod", source({kReal, kCodes, kScoreProd})};
  decode_ = {"decode_prod", source({kReal, kRotate, kCodes, unproject, kDecodeProd})};
}

Result<void> ProdKernels::Encode(Gpu& gpu, const Buffer& floats, size_t first_row, size_t count,
                                 const Segment& into, const RowStatus& status) const {
  TQ_CHECK(mse_->Encode(gpu, floats, first_row, count, into, status));
  return gpu.Run(signs_, {Words(count), Words(into.rows), Words(into.capacity)},
                 {&floats, &masks_, &mse_->codebook(), &into.blocks, &into.signs, &into.scales},
                 mse_->GroupsOf(count));
}

Result<void> ProdKernels::Decode(Gpu& gpu, const Segment& from, size_t first_lane, size_t count,
                                 const Buffer& decoded) const {
  return gpu.Run(decode_, {Words(count), Words(first_lane), Words(from.capacity)},
                 {&masks_, &mse_->codebook(), &from.blocks, &from.scales, &from.signs, &decoded},
                 mse_->GroupsOf(count));
}

Result<QueryChunk> ProdKernels::Prepare(Gpu& gpu, const Buffer& floats, size_t queries,
                                        const RowStatus& status) const {
  QueryChunk chunk;
  chunk.queries = queries;
  const size_t padded = RoundUp(queries, 4);
  const size_t dim = mse_->core().options().dim;
  TQ_TRY(chunk.digits, gpu.MakeBuffer("rotated queries", padded * RoundUp(dim, 4) * sizeof(float)));
  TQ_TRY(chunk.projections, gpu.MakeBuffer("projected queries",
                                           padded * sign_words() * kSignsPerWord * sizeof(float)));
  TQ_TRY(chunk.factors, gpu.MakeBuffer("norms of queries", queries * sizeof(float)));
  TQ_CHECK(gpu.Run(
      prepare_, {Words(queries)},
      {&floats, &masks_, &chunk.digits, &chunk.projections, &chunk.factors, &status.buffer()},
      mse_->GroupsOf(queries)));
  return chunk;
}

Result<void> ProdKernels::Score(Gpu& gpu, const Segment& rows, const QueryChunk& chunk,
                                size_t first_query, size_t queries, const Buffer& scores) const {
  return gpu.Run(score_,
                 {Words(rows.rows), Words(queries), Words(first_query), Words(rows.capacity)},
                 {&mse_->codebook(), &rows.blocks, &rows.scales, &rows.signs, &chunk.digits,
                  &chunk.projections, &chunk.factors, &scores},
                 Words(CeilDivide(rows.rows, kThreads)), Words(CeilDivide(queries, 4)));
}

}  // namespace turboquant::webgpu
