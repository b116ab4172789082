#include "turboquant/kv_format.h"

#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "src/base/checked.h"
#include "src/base/counted_shared.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cache/kv_parts.h"
#include "src/kernels/line_layout.h"
#include "src/quantizers/fingerprint.h"

namespace turboquant {
namespace {

constexpr size_t kMaxHeadDim = 1024;
constexpr size_t kMaxHeads = 1024;
constexpr size_t kAlignment = 64;
// Streams, frozen. Side 0 keys, 1 values; the outliers of a side draw from 128 sides above it, as
// those of an OutlierQuantizer do. The sketch of a side has a stage of its own.
constexpr uint32_t kOutlierSide = 128;

Result<void> CheckMethod(std::string_view name, const KvSideOptions& side, bool values) {
  switch (side.method) {
    case KvMethod::kMse:
      if (side.bits >= 1 && side.bits <= 8) return {};
      return Fail(ErrorCode::kInvalidArgument, name, ".bits must be 1 to 8, got ", side.bits);
    case KvMethod::kProd:
      if (values) {
        return Fail(ErrorCode::kInvalidArgument, name,
                    ".method must not be kProd: its estimates are of inner products, values are "
                    "summed");
      }
      if (side.bits >= 2 && side.bits <= 8) return {};
      return Fail(ErrorCode::kInvalidArgument, name, ".bits of kProd must be 2 to 8 in total, got ",
                  side.bits);
    case KvMethod::kF16:
    case KvMethod::kF32:
      return {};
  }
  return Fail(ErrorCode::kInvalidArgument, name, ".method ", static_cast<int>(side.method),
              " is none of kMse, kProd, kF16, kF32");
}

Result<void> CheckOutliers(std::string_view name, const KvSideOptions& side, size_t head_dim) {
  if (side.outlier_channels == 0) return {};
  if (side.method != KvMethod::kMse || side.bits > 7) {
    return Fail(ErrorCode::kInvalidArgument, name,
                ".outlier_channels need method kMse of at most 7 bits");
  }
  if (side.outlier_channels < 2 || side.outlier_channels + 2 > head_dim) {
    return Fail(ErrorCode::kInvalidArgument, name,
                ".outlier_channels must leave at least 2 channels of head_dim ", head_dim,
                " to both parts, got ", side.outlier_channels);
  }
  return {};
}

Result<void> CheckSide(std::string_view name, const KvSideOptions& side, bool values,
                       size_t head_dim) {
  TQ_CHECK(CheckMethod(name, side, values));
  TQ_CHECK(CheckOutliers(name, side, head_dim));
  if (static_cast<unsigned>(side.scale) > static_cast<unsigned>(Scale::kUnbiased)) {
    return Fail(ErrorCode::kInvalidArgument, name, ".scale ", static_cast<int>(side.scale),
                " is none of kNorm, kMatched, kLeastSquares, kUnbiased");
  }
  if (side.sketch != SketchKind::kGaussian && side.sketch != SketchKind::kOrthogonal) {
    return Fail(ErrorCode::kInvalidArgument, name, ".sketch ", static_cast<int>(side.sketch),
                " is neither kGaussian nor kOrthogonal");
  }
  if (side.method == KvMethod::kMse && side.bits == 8 && side.scale_search.value_or(false)) {
    return Fail(ErrorCode::kInvalidArgument, name,
                ".scale_search is not for 8 bits, whose uniform codebook gains nothing by it");
  }
  return {};
}

Result<void> CheckOptions(const KvFormatOptions& options) {
  if (options.head_dim < 2 || options.head_dim > kMaxHeadDim) {
    return Fail(ErrorCode::kInvalidArgument, "head_dim must be 2 to ", kMaxHeadDim, ", got ",
                options.head_dim);
  }
  if (options.kv_heads < 1 || options.kv_heads > kMaxHeads) {
    return Fail(ErrorCode::kInvalidArgument, "kv_heads must be 1 to ", kMaxHeads, ", got ",
                options.kv_heads);
  }
  if (options.layer >= 1u << 20) {
    return Fail(ErrorCode::kInvalidArgument, "layer must be below 1048576, got ", options.layer);
  }
  if (options.rotation != RotationKind::kHadamard && options.rotation != RotationKind::kDense) {
    return Fail(ErrorCode::kInvalidArgument, "rotation ", static_cast<int>(options.rotation),
                " is neither kHadamard nor kDense");
  }
  if (options.rotation_rounds < 1 || options.rotation_rounds > 3) {
    return Fail(ErrorCode::kInvalidArgument, "rotation_rounds must be 1 to 3, got ",
                options.rotation_rounds);
  }
  TQ_CHECK(CheckSide("keys", options.keys, /*values=*/false, options.head_dim));
  return CheckSide("values", options.values, /*values=*/true, options.head_dim);
}

// Of one part of a side, for head 0.
MseOptions CoreOptions(const KvFormatOptions& options, const KvSideOptions& side, bool values,
                       size_t dim, int bits, bool outliers) {
  MseOptions mse;
  mse.dim = dim;
  mse.bits = bits;
  const bool prod = side.method == KvMethod::kProd;
  mse.scale = prod ? Scale::kNorm : side.scale;
  if (prod) {
    mse.scale_search = false;  // the residual is what the sketch corrects, not the cosine
  } else if (bits == 8) {
    mse.codebook = CodebookKind::kUniform;
    mse.scale_search = false;
  } else {
    mse.scale_search = side.scale_search;
  }
  mse.rotation = options.rotation;
  mse.rotation_rounds = options.rotation_rounds;
  mse.seed = options.seed;
  mse.stream = {options.layer, 0, (values ? 1u : 0u) + (outliers ? kOutlierSide : 0u)};
  mse.backend = options.backend;
  return mse;
}

// Gives the part its place behind `end`, which moves behind it.
void Place(KvPart& part, bool values, size_t& end) {
  const size_t bits = static_cast<size_t>(part.bits);
  part.blocks_offset = end;
  part.blocks_bytes =
      values ? kPageTokens / kernels::kValueBlockRows * kernels::ValueBlockBytes(part.dim, bits)
             : kPageTokens / kernels::kKeyBlockRows * kernels::KeyBlockBytes(part.dim, bits);
  part.scales_offset = RoundUp(end + part.blocks_bytes, kAlignment);
  end = RoundUp(part.scales_offset + kPageTokens * sizeof(uint16_t), kAlignment);
}

Result<KvPart> MakeCodes(const KvFormatOptions& options, const MseOptions& mse,
                         size_t first_channel) {
  KvPart part = {};
  part.first_channel = first_channel;
  part.dim = mse.dim;
  part.bits = mse.bits;
  part.cores.reserve(options.kv_heads);
  TQ_TRY(MseCore first, MseCore::Create(mse));
  part.cores.push_back(std::move(first));
  for (uint32_t head = 1; head < options.kv_heads; ++head) {
    TQ_TRY(MseCore core, part.cores[0].WithStream({mse.stream.layer, head, mse.stream.side}));
    part.cores.push_back(std::move(core));
  }
  part.score = part.cores[0].score_plan();
  part.level_step = part.cores[0].sigma_step();
  return part;
}

// The sketch of what `codes` leave over.
Result<KvPart> MakeSigns(const KvFormatOptions& options, const KvPart& codes, SketchKind kind) {
  KvPart part = {};
  part.signs = true;
  part.dim = codes.dim;
  part.bits = 1;
  part.cores = codes.cores;
  part.sketches.reserve(options.kv_heads);
  for (uint32_t head = 0; head < options.kv_heads; ++head) {
    TQ_TRY(QjlSketch sketch, QjlSketch::Create({.dim = codes.dim,
                                                .kind = kind,
                                                .seed = options.seed,
                                                .stream = {options.layer, head, 0}}));
    part.sketches.push_back(std::move(sketch));
  }
  part.sign_levels.assign(256, 0);
  part.sign_levels[0] = 127;
  part.sign_levels[1] = -127;
  part.score = {part.dim, 1, 2, part.sign_levels.data(), /*int8_levels=*/true};
  part.level_step = part.sketches[0].estimator_constant() / 127.0;
  return part;
}

Result<KvSide> MakeSide(const KvFormatOptions& options, bool values, size_t& end) {
  KvSide side = {};
  side.options = values ? options.values : options.keys;
  const KvSideOptions& asked = side.options;
  if (asked.method == KvMethod::kF16 || asked.method == KvMethod::kF32) {
    side.exact_offset = end;
    side.exact_row_bytes = options.head_dim * (asked.method == KvMethod::kF16 ? 2 : 4);
    end = RoundUp(end + kPageTokens * side.exact_row_bytes, kAlignment);
    return side;
  }
  side.parts.reserve(2);
  const auto add_codes = [&](size_t first_channel, size_t dim, int bits,
                             bool outliers) -> Result<void> {
    const MseOptions mse = CoreOptions(options, asked, values, dim, bits, outliers);
    TQ_TRY(KvPart part, MakeCodes(options, mse, first_channel));
    side.parts.push_back(std::move(part));
    return {};
  };
  const size_t outliers = asked.outlier_channels;
  const int bits = asked.method == KvMethod::kProd ? asked.bits - 1 : asked.bits;
  if (outliers != 0) TQ_CHECK(add_codes(0, outliers, bits + 1, true));
  TQ_CHECK(add_codes(outliers, options.head_dim - outliers, bits, false));
  if (asked.method == KvMethod::kProd) {
    TQ_TRY(KvPart signs, MakeSigns(options, side.parts[0], asked.sketch));
    side.parts.push_back(std::move(signs));
  } else {
    side.options.scale_search = side.parts.back().cores[0].options().scale_search;
  }
  for (KvPart& part : side.parts) Place(part, values, end);
  return side;
}

uint64_t FormatFingerprint(const KvFormat::Parts& parts) {
  Fingerprint fingerprint;
  fingerprint.Add('C').Add(parts.options.head_dim).Add(parts.options.kv_heads);
  for (const KvSide* side : {&parts.keys, &parts.values}) {
    fingerprint.Add(side->options.method).Add(side->parts.size());
    for (const KvPart& part : side->parts) {
      fingerprint.Add(part.first_channel).Add(part.dim).Add(part.bits);
      for (const MseCore& core : part.cores) fingerprint.Add(core.fingerprint());
      for (const QjlSketch& sketch : part.sketches) fingerprint.Add(sketch.fingerprint());
    }
  }
  return fingerprint.value();
}

// Everything behind the object itself.
size_t PartsBytes(const KvSide& side) {
  size_t bytes = side.parts.capacity() * sizeof(KvPart);
  for (const KvPart& part : side.parts) {
    bytes += part.cores.capacity() * sizeof(MseCore) +
             part.sketches.capacity() * sizeof(QjlSketch) +
             part.sign_levels.capacity() * sizeof(int16_t);
    for (const QjlSketch& sketch : part.sketches) bytes += sketch.HeldBytes();
    if (part.signs) continue;  // its cores share all with those of the part before
    bytes += part.cores[0].TableBytes();
    for (const MseCore& core : part.cores) bytes += core.RotationBytes();
  }
  return bytes;
}

size_t ScaleBytes(const KvSide& side) { return side.parts.size() * kPageTokens * sizeof(uint16_t); }

}  // namespace

Result<KvFormat> KvFormat::Create(const KvFormatOptions& options) {
  TQ_CHECK(CheckOptions(options));
  size_t object_bytes = 0;
  auto parts = MakeCountedShared<Parts>(object_bytes);
  TQ_TRY(parts->backend, ResolveBackend(options.backend));
  parts->kernels = kernels::FindKernels(parts->backend);
  parts->options = options;
  size_t end = 0;
  TQ_TRY(parts->keys, MakeSide(options, /*values=*/false, end));
  parts->values_offset = end;
  TQ_TRY(parts->values, MakeSide(options, /*values=*/true, end));
  parts->options.keys = parts->keys.options;
  parts->options.values = parts->values.options;
  parts->head_bytes = end;
  parts->head_scale_bytes = ScaleBytes(parts->keys) + ScaleBytes(parts->values);
  parts->fingerprint = FormatFingerprint(*parts);
  parts->held_bytes = object_bytes + PartsBytes(parts->keys) + PartsBytes(parts->values);
  return KvFormat(std::move(parts));
}

const KvFormatOptions& KvFormat::options() const { return parts_->options; }
Backend KvFormat::backend() const { return parts_->backend; }
size_t KvFormat::HeadBytes() const { return parts_->head_bytes; }
size_t KvFormat::HeldBytes() const { return parts_->held_bytes; }
uint64_t KvFormat::fingerprint() const { return parts_->fingerprint; }

}  // namespace turboquant
