#include "turboquant/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "src/base/failure.h"
#include "src/base/random.h"
#include "src/base/try.h"
#include "src/kernels/kernels.h"
#include "src/math/qr.h"
#include "src/quantizers/dense_product.h"
#include "src/quantizers/direction.h"

namespace turboquant {
namespace {

constexpr size_t kMaxDim = 65536;
constexpr size_t kMaxDenseDim = 8192;
constexpr uint32_t kDenseRound = 255;  // the stream of the dense matrix's normals

Result<void> CheckOptions(const RotationOptions& options) {
  const bool dense = options.kind == RotationKind::kDense;
  if (!dense && options.kind != RotationKind::kHadamard) {
    return Fail(ErrorCode::kInvalidArgument, "rotation kind ", static_cast<int>(options.kind),
                " is neither kHadamard nor kDense");
  }
  const size_t max_dim = dense ? kMaxDenseDim : kMaxDim;
  if (options.dim < 2 || options.dim > max_dim) {
    return Fail(ErrorCode::kInvalidArgument, "dim must be 2 to ", max_dim,
                dense ? " for a dense rotation, got " : ", got ", options.dim);
  }
  if (!dense && (options.rounds < 1 || options.rounds > 3)) {
    return Fail(ErrorCode::kInvalidArgument, "rotation rounds must be 1 to 3, got ",
                options.rounds);
  }
  if (options.stream.layer >= 1u << 20 || options.stream.head >= 1u << 20) {
    return Fail(ErrorCode::kInvalidArgument, "stream layer and head must be below 1048576, got ",
                options.stream.layer, " and ", options.stream.head);
  }
  if (options.stream.side >= 256 || options.stage >= 256) {
    return Fail(ErrorCode::kInvalidArgument, "stream side and stage must be below 256, got ",
                options.stream.side, " and ", options.stage);
  }
  return {};
}

StreamId Stream(const RotationOptions& options, uint32_t round) {
  return {options.stream.layer, options.stream.head, options.stream.side, options.stage, round};
}

std::vector<uint32_t> MakeSignMasks(const RotationOptions& options) {
  const size_t p = std::bit_floor(options.dim);
  const size_t masks_per_round = p == options.dim ? p : options.dim + p;
  std::vector<uint32_t> masks;
  masks.reserve(static_cast<size_t>(options.rounds) * masks_per_round);
  for (int round = 0; round < options.rounds; ++round) {
    RandomBits bits(options.seed, Stream(options, static_cast<uint32_t>(round)));
    for (size_t j = 0; j < masks_per_round; ++j) {
      masks.push_back(bits.NextBit() ? 0x80000000u : 0u);
    }
  }
  return masks;
}

std::vector<float> MakeDenseMatrix(const RotationOptions& options) {
  RandomBits normals(options.seed, Stream(options, kDenseRound));
  const std::vector<double> matrix = OrthogonalFromRows(options.dim, [&](std::span<double> row) {
    for (double& x : row) x = normals.NextNormal();
  });
  std::vector<float> narrowed(matrix.size());
  std::ranges::transform(matrix, narrowed.begin(), [](double x) { return static_cast<float>(x); });
  return narrowed;
}

// Undoes the growth of unnormalised rounds, p^(rounds/2); 1 where every round is normalised.
float FinalFactor(const RotationOptions& options) {
  if (!std::has_single_bit(options.dim)) return 1.0f;
  const int halvings = std::countr_zero(options.dim) * options.rounds;
  const double factor = std::ldexp(halvings % 2 ? std::sqrt(0.5) : 1.0, -(halvings / 2));
  return static_cast<float>(factor);
}

Result<void> CheckShapes(const RotationOptions& options, const MatrixView<const float>& in,
                         const MatrixView<float>& out) {
  if (in.cols != options.dim || out.cols != options.dim || in.rows != out.rows) {
    return Fail(ErrorCode::kDimensionMismatch, "cannot rotate ", in.rows, " × ", in.cols, " into ",
                out.rows, " × ", out.cols, " with a rotation of dim ", options.dim);
  }
  if (in.rows > 1 && (in.stride < in.cols || out.stride < out.cols)) {
    return Fail(ErrorCode::kDimensionMismatch, "strides ", in.stride, " and ", out.stride,
                " are less than the ", in.cols, " columns of a row");
  }
  return {};
}

void ApplyHadamard(const RotationOptions& options, std::span<const uint32_t> sign_masks,
                   bool inverse, const MatrixView<const float>& in, const MatrixView<float>& out) {
  const kernels::RotationPlan plan = {options.dim, options.rounds, sign_masks.data()};
  const auto rotate = inverse ? FastestKernels().rotate_inverse : FastestKernels().rotate;
  const float factor = FinalFactor(options);
  for (size_t r = 0; r < in.rows; ++r) {
    float* row = out.Row(r);
    if (in.Row(r) != row) std::copy_n(in.Row(r), options.dim, row);
    rotate(plan, row);
    if (factor == 1.0f) continue;
    for (size_t j = 0; j < options.dim; ++j) row[j] *= factor;
  }
}

}  // namespace

Result<Rotation> Rotation::Create(const RotationOptions& options) {
  TQ_CHECK(CheckOptions(options));
  Rotation rotation(options);
  if (options.kind == RotationKind::kDense) {
    rotation.matrix_ = MakeDenseMatrix(options);
  } else {
    rotation.sign_masks_ = MakeSignMasks(options);
  }
  return rotation;
}

Result<void> Rotation::Apply(MatrixView<const float> in, MatrixView<float> out) const {
  TQ_CHECK(CheckShapes(options_, in, out));
  if (options_.kind == RotationKind::kHadamard) {
    ApplyHadamard(options_, sign_masks_, /*inverse=*/false, in, out);
    return {};
  }
  MultiplyRows({matrix_.data(), options_.dim, options_.dim, options_.dim, 1}, in, out);
  return {};
}

Result<void> Rotation::ApplyInverse(MatrixView<const float> in, MatrixView<float> out) const {
  TQ_CHECK(CheckShapes(options_, in, out));
  if (options_.kind == RotationKind::kHadamard) {
    ApplyHadamard(options_, sign_masks_, /*inverse=*/true, in, out);
    return {};
  }
  MultiplyRows({matrix_.data(), options_.dim, options_.dim, 1, options_.dim}, in, out);
  return {};
}

size_t Rotation::HeldBytes() const {
  return sign_masks_.capacity() * sizeof(uint32_t) + matrix_.capacity() * sizeof(float);
}

}  // namespace turboquant
