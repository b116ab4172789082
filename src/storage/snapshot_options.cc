#include "src/storage/snapshot_options.h"

#include <algorithm>
#include <optional>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/option_names.h"
#include "src/storage/option_rules.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

using Rule = OptionRule;
using Kind = OptionKind;

constexpr uint64_t kMaxPosition = uint64_t{1} << 52;
constexpr uint64_t kMaxCount = uint64_t{1} << 48;  // of tokens: sums of a few never overflow
constexpr std::string_view kOwner = "a snapshot";

constexpr Rule kRules[] = {
    {"head_dim", Kind::kNumber, 2, 1024},
    {"kv_heads", Kind::kNumber, 1, 1024},
    {"layer", Kind::kNumber, 0, (1u << 20) - 1},
    {"seed", Kind::kNumber, 0, UINT64_MAX},
    {"rotation", Kind::kChoice, 0, 0, "hadamard|dense"},
    {"rotation_rounds", Kind::kNumber, 1, 3, "", "rotation", "hadamard"},
    {"scale_type", Kind::kChoice, 0, 0, "f16"},
    {"sinks", Kind::kNumber, 0, UINT64_MAX},
    {"window", Kind::kNumber, 0, UINT64_MAX},
    {"max_tokens", Kind::kNumber, 0, UINT64_MAX},
    {"exact_type", Kind::kChoice, 0, 0, "f16|f32"},
    {"first_position", Kind::kNumber, 0, kMaxPosition},
    {"rope", Kind::kChoice, 0, 0, "none|half|interleaved"},
    {"key_map", Kind::kChoice, 0, 0, "none|center|diagonal|full"},
    {"key_map_given", Kind::kChoice, 0, 0, "true|false"},
    {"key_map_shrinkage", Kind::kReal},
    {"query_weighted_codes", Kind::kChoice, 0, 0, "true", "", "", /*may_lack=*/true},
    {"query_heads", Kind::kNumber, 0, UINT64_MAX},
    // State.
    {"sink_tokens", Kind::kNumber, 0, kMaxCount},
    {"packed_tokens", Kind::kNumber, 0, kMaxCount},
    {"window_tokens", Kind::kNumber, 0, kMaxCount},
    {"evicted_tokens", Kind::kNumber, 0, kMaxPosition},
    {"first_lane", Kind::kNumber, 0, kPageTokens - 1},
    {"key_map_held", Kind::kChoice, 0, 0, "none|center|diagonal|full"},
    {"query_weights_held", Kind::kChoice, 0, 0, "true", "", "", /*may_lack=*/true},
    {"observed_queries", Kind::kChoice, 0, 0, "none|held"},
    {"observed_tokens", Kind::kNumber, 0, kMaxCount, "", "observed_queries", "held"},
};

// Of keys, and of values, behind "keys." and "values.".
constexpr Rule kSideRules[] = {
    {"method", Kind::kChoice, 0, 0, "mse|outlier|prod|f16|f32"},
    {"bits", Kind::kNumber, 1, 8, "", "method", "mse"},
    {"bits", Kind::kNumber, 1, 7, "", "method", "outlier"},
    {"bits", Kind::kNumber, 2, 8, "", "method", "prod"},
    {"outlier_channels", Kind::kNumber, 2, 1022, "", "method", "outlier"},
    {"outlier_channels_held", Kind::kChoice, 0, 0, "true|false", "method", "outlier"},
    {"scale", Kind::kChoice, 0, 0, "norm|matched|least-squares|unbiased", "method", "mse"},
    {"scale", Kind::kChoice, 0, 0, "norm|matched|least-squares|unbiased", "method", "outlier"},
    {"scale_search", Kind::kChoice, 0, 0, "true|false", "method", "mse"},
    {"scale_search", Kind::kChoice, 0, 0, "auto|true|false", "method", "outlier"},
    {"sketch", Kind::kChoice, 0, 0, "gaussian|orthogonal", "method", "prod"},
    {"code", Kind::kChoice, 0, 0, "scalar", "method", "mse"},
    {"code", Kind::kChoice, 0, 0, "scalar", "method", "outlier"},
    {"code", Kind::kChoice, 0, 0, "scalar", "method", "prod"},
    {"codebook_crc32", Kind::kHex, 0, 0, "", "method", "mse"},
    {"codebook_crc32", Kind::kHex, 0, 0, "", "method", "outlier"},
    {"codebook_crc32", Kind::kHex, 0, 0, "", "method", "prod"},
    {"outlier_codebook_crc32", Kind::kHex, 0, 0, "", "method", "outlier"},
};

std::string_view MethodName(const KvSideOptions& side) {
  switch (side.method) {
    case KvMethod::kMse:
      return side.outlier_channels == 0 ? "mse" : "outlier";
    case KvMethod::kProd:
      return "prod";
    case KvMethod::kF16:
      return "f16";
    case KvMethod::kF32:
      return "f32";
  }
  return {};
}

std::string BoolText(bool truth) { return truth ? "true" : "false"; }

// Whether pre-scales are tried. The two parts of an outlier split differ where their widths decide.
std::string SearchText(const KvSide& side) {
  const bool regular = side.parts.back().cores[0].options().scale_search.value_or(false);
  const bool first = side.parts.front().cores[0].options().scale_search.value_or(false);
  return first == regular ? BoolText(regular) : "auto";
}

void AddSide(const std::string& prefix, const KvSide& side, OptionTexts& texts) {
  const auto add = [&](std::string_view name, std::string text) {
    texts.emplace_back(prefix + std::string(name), std::move(text));
  };
  const KvSideOptions& options = side.options;
  add("method", std::string(MethodName(options)));
  if (side.exact()) return;
  add("bits", std::to_string(options.bits));
  const bool outliers = options.outlier_channels != 0;
  if (outliers) add("outlier_channels", std::to_string(options.outlier_channels));
  if (options.method == KvMethod::kMse) {
    add("scale", std::string(NameOf(kScaleNames, options.scale)));
    add("scale_search", SearchText(side));
  } else {
    add("sketch", std::string(NameOf(kSketchNames, options.sketch)));
  }
  add("code", "scalar");
  const KvPart& regular = side.parts[outliers ? 1 : 0];
  add("codebook_crc32", Hex32(regular.cores[0].codebook().fingerprint()));
  if (outliers) {
    add("outlier_codebook_crc32", Hex32(side.parts[0].cores[0].codebook().fingerprint()));
  }
}

}  // namespace

OptionTexts TextsOf(const KvCache::State& state) {
  const KvCacheOptions& options = state.options;
  const KvFormatOptions& format = options.format;
  OptionTexts texts;
  const auto add = [&](std::string_view name, std::string text) {
    texts.emplace_back(name, std::move(text));
  };
  add("head_dim", std::to_string(format.head_dim));
  add("kv_heads", std::to_string(format.kv_heads));
  AddSide("keys.", state.parts().keys, texts);
  AddSide("values.", state.parts().values, texts);
  add("scale_type", "f16");
  add("rotation", std::string(NameOf(kRotationNames, format.rotation)));
  if (format.rotation == RotationKind::kHadamard) {
    add("rotation_rounds", std::to_string(format.rotation_rounds));
  }
  add("seed", std::to_string(format.seed));
  add("layer", std::to_string(format.layer));
  add("sinks", std::to_string(options.sinks));
  add("window", std::to_string(options.window));
  add("max_tokens", std::to_string(options.max_tokens));
  add("exact_type", std::string(NameOf(kExactTypeNames, options.exact_type)));
  add("first_position", std::to_string(options.first_position));
  add("rope", options.rope ? std::string(NameOf(kPairingNames, options.rope->pairing)) : "none");
  add("key_map", std::string(NameOf(kKeyMapNames, options.key_map)));
  add("key_map_given", BoolText(options.known_key_map != nullptr));
  add("key_map_shrinkage", RealText(options.key_map_shrinkage));
  if (*options.query_weighted_codes) add("query_weighted_codes", "true");
  add("query_heads", std::to_string(options.query_heads));
  return texts;
}

uint64_t SnapshotMetadata::Number(std::string_view name) const { return *ParseDecimal(Text(name)); }

Result<void> SnapshotMetadata::Check(std::set<std::string>& expected) const {
  TQ_CHECK(CheckOptionRules(kOwner, kRules, prefix_, metadata_, expected));
  TQ_CHECK(CheckOptionRules(kOwner, kSideRules, prefix_ + "keys.", metadata_, expected));
  return CheckOptionRules(kOwner, kSideRules, prefix_ + "values.", metadata_, expected);
}

KvSideOptions SnapshotMetadata::Side(std::string_view side) const {
  const auto text = [&](std::string_view name) -> const std::string& {
    return Text(std::string(side) + std::string(name));
  };
  KvSideOptions options;
  const std::string& method = text("method");
  if (method == "f16" || method == "f32") {
    options.method = method == "f16" ? KvMethod::kF16 : KvMethod::kF32;
    return options;
  }
  options.bits = static_cast<int>(*ParseDecimal(text("bits")));
  if (method == "prod") {
    options.method = KvMethod::kProd;
    options.sketch = OptionOf(kSketchNames, text("sketch"));
    return options;
  }
  options.scale = OptionOf(kScaleNames, text("scale"));
  const std::string& search = text("scale_search");
  if (search != "auto") options.scale_search = search == "true";
  if (method == "outlier") options.outlier_channels = *ParseDecimal(text("outlier_channels"));
  return options;
}

KvCacheOptions SnapshotMetadata::Options() const {
  KvCacheOptions options;
  options.format.head_dim = Number("head_dim");
  options.format.kv_heads = Number("kv_heads");
  options.format.keys = Side("keys.");
  options.format.values = Side("values.");
  options.format.rotation = OptionOf(kRotationNames, Text("rotation"));
  if (Has("rotation_rounds")) {
    options.format.rotation_rounds = static_cast<int>(Number("rotation_rounds"));
  }
  options.format.seed = Number("seed");
  options.format.layer = static_cast<uint32_t>(Number("layer"));
  options.sinks = Number("sinks");
  options.window = Number("window");
  options.max_tokens = Number("max_tokens");
  options.exact_type = OptionOf(kExactTypeNames, Text("exact_type"));
  options.first_position = Number("first_position");
  if (Text("rope") != "none") {
    options.rope = RopeParameters{{}, OptionOf(kPairingNames, Text("rope"))};
  }
  options.key_map = OptionOf(kKeyMapNames, Text("key_map"));
  options.key_map_shrinkage = *ParseReal(Text("key_map_shrinkage"));
  options.query_weighted_codes = Has("query_weighted_codes");
  options.query_heads = Number("query_heads");
  return options;
}

Result<void> SnapshotMetadata::Compare(const OptionTexts& expected, ErrorCode code) const {
  for (const auto& [name, text] : expected) {
    // Which other options there are is told by one that comes earlier.
    if (!Has(name) || Text(name) == text) continue;
    return Fail(code, "option '", prefix_, name, "' is ", Quoted(Text(name)), " in the snapshot, ",
                Quoted(text), " was expected");
  }
  // Written where it is so only, as files from before there were such codes read.
  constexpr std::string_view kWeighted = "query_weighted_codes";
  const auto is_weighted = [&](const auto& option) { return option.first == kWeighted; };
  const bool wanted = std::ranges::any_of(expected, is_weighted);
  if (Has(kWeighted) == wanted) return {};
  return Fail(code, "option '", prefix_, kWeighted, "' is '", BoolText(!wanted),
              "' in the snapshot, '", BoolText(wanted), "' was expected");
}

}  // namespace turboquant
