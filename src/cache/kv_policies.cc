#include <string>
#include <string_view>

#include "src/base/failure.h"
#include "src/cache/kv_state.h"
#include "turboquant/kv_cache.h"

namespace turboquant {
namespace {

// Keys and values at their best known practice: the defaults.
KvCacheOptions Practice(int key_bits, int value_bits) {
  KvCacheOptions options;
  options.format.keys.bits = key_bits;
  options.format.values.bits = value_bits;
  return options;
}

// The algorithm of the paper and nothing else.
KvCacheOptions Bare() {
  KvCacheOptions options;
  for (KvSideOptions* side : {&options.format.keys, &options.format.values}) {
    side->scale = Scale::kNorm;
    side->scale_search = false;
  }
  options.format.rotation_rounds = 2;
  options.sinks = 0;
  options.window = 0;
  options.key_map = KeyMapKind::kNone;
  return options;
}

Result<KvCacheOptions> Named(std::string_view name) {
  if (name == "safe") return Practice(8, 4);
  if (name == "balanced") return Practice(4, 4);
  if (name == "small") return Practice(3, 3);
  if (name == "paper") return Bare();
  if (name == "peer") {
    KvCacheOptions options = Bare();
    options.format.keys.method = KvMethod::kProd;
    options.format.keys.sketch = SketchKind::kGaussian;
    options.format.rotation = RotationKind::kDense;
    return options;
  }
  return Fail(ErrorCode::kInvalidArgument, "policy '", name,
              "' is none of safe, balanced, small, paper, peer");
}

std::string ScaleName(Scale scale) {
  switch (scale) {
    case Scale::kNorm:
      return "norm";
    case Scale::kMatched:
      return "matched";
    case Scale::kLeastSquares:
      return "least squares";
    case Scale::kUnbiased:
      return "unbiased";
  }
  return "unknown";
}

// As KvFormat fills it in.
bool Searches(const KvSideOptions& side) {
  return side.scale_search.value_or(side.bits >= 3 && side.bits <= 7);
}

std::string DescribeSide(std::string_view name, const KvSideOptions& side) {
  const std::string prefix = std::string(name) + " ";
  const std::string bits = std::to_string(side.bits) + " bits";
  switch (side.method) {
    case KvMethod::kF16:
      return prefix + "f16";
    case KvMethod::kF32:
      return prefix + "f32";
    case KvMethod::kProd:
      return prefix + "prod " + bits +
             (side.sketch == SketchKind::kGaussian ? " gaussian sketch" : " orthogonal sketch");
    case KvMethod::kMse:
      break;
  }
  std::string text = prefix + "mse " + bits + " " + ScaleName(side.scale) + " scale";
  if (Searches(side)) text += " searched";
  if (side.outlier_channels != 0) {
    text.append(" ").append(std::to_string(side.outlier_channels)).append(" outlier channels");
  }
  return text;
}

std::string DescribeRotation(const KvFormatOptions& format) {
  if (format.rotation == RotationKind::kDense) return "dense rotation";
  return "hadamard rotation " + std::to_string(format.rotation_rounds) +
         (format.rotation_rounds == 1 ? " round" : " rounds");
}

std::string_view MapName(KeyMapKind kind) {
  switch (kind) {
    case KeyMapKind::kNone:
      return "no";
    case KeyMapKind::kCenter:
      return "centre";
    case KeyMapKind::kDiagonal:
      return "diagonal";
    case KeyMapKind::kFull:
      return "full";
  }
  return "unknown";
}

std::string DescribeMap(const KvCacheOptions& options) {
  if (options.key_map == KeyMapKind::kNone) return "no key map";
  if (!options.rope) {
    return options.key_map == KeyMapKind::kCenter ? "centre of the first positions"
                                                  : "no key map without rope";
  }
  const std::string known = options.known_key_map ? "known " : "";
  const std::string codes = WeighsCodes(options) ? ", query-weighted codes" : "";
  return known + std::string(MapName(options.key_map)) + " key map in page frames" + codes;
}

}  // namespace

Result<KvCacheOptions> PolicyOptions(std::string_view name, size_t head_dim, size_t kv_heads) {
  Result<KvCacheOptions> options = Named(name);
  if (options) {
    options->format.head_dim = head_dim;
    options->format.kv_heads = kv_heads;
  }
  return options;
}

std::string Describe(const KvCacheOptions& options) {
  std::string text = DescribeSide("keys", options.format.keys) + ", " +
                     DescribeSide("values", options.format.values) + ", " +
                     DescribeRotation(options.format) + ", " + DescribeMap(options) + ", " +
                     std::to_string(options.sinks) + " sinks, window " +
                     std::to_string(options.window);
  if (options.max_tokens != 0)
    text += ", at most " + std::to_string(options.max_tokens) + " tokens";
  if (options.exact_type == RowType::kF16) text += ", exact tokens f16";
  text += ", seed " + std::to_string(options.format.seed);
  return text;
}

}  // namespace turboquant
