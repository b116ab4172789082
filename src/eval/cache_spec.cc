#include "src/eval/cache_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant::eval {
namespace {

constexpr std::array<std::string_view, 4> kMethodNames = {"mse", "prod", "f16", "f32"};
constexpr std::array<std::string_view, 4> kMapNames = {"none", "center", "diagonal", "full"};
constexpr std::array<std::string_view, 2> kSearchNames = {"off", "on"};
constexpr std::array<std::string_view, 2> kCodesNames = {"nearest", "weighted"};
constexpr std::array<std::string_view, 5> kPolicies = {"safe", "balanced", "small", "paper",
                                                       "peer"};

template <class T, size_t kCount>
Result<T> ParseName(std::string_view what, std::string_view name,
                    const std::array<std::string_view, kCount>& names) {
  const auto found = std::ranges::find(names, name);
  if (found != names.end()) return static_cast<T>(found - names.begin());
  std::string known;
  for (const std::string_view one : names) known += (known.empty() ? "" : ", ") + std::string(one);
  return Fail(ErrorCode::kInvalidArgument, "unknown ", what, " \"", name, "\"; known: ", known);
}

// Each spec once for each number of the list, which `set` writes into it; unchanged for none.
template <class T, class Set>
void Multiply(std::vector<CacheSpec>& specs, const std::vector<T>& numbers, Set set) {
  if (numbers.empty()) return;
  std::vector<CacheSpec> product;
  for (const CacheSpec& spec : specs) {
    for (const T& number : numbers) {
      product.push_back(spec);
      set(product.back(), number);
    }
  }
  specs = std::move(product);
}

bool Quantizes(const KvSideOptions& side) {
  return side.method == KvMethod::kMse || side.method == KvMethod::kProd;
}

// A width without a search keeps what it has, so that grids of widths can be told to search.
void SetScaleSearch(CacheSpec& spec, ScaleSearch search) {
  for (KvSideOptions* side : {&spec.options.format.keys, &spec.options.format.values}) {
    if (side->method != KvMethod::kMse || side->bits > 7) continue;
    side->scale_search = search == ScaleSearch::kOn;
  }
}

// Keys without such codes keep what they have.
void SetKeyCodes(CacheSpec& spec, KeyCodes codes) {
  if (spec.options.format.keys.method != KvMethod::kMse) return;
  if (spec.options.key_map != KeyMapKind::kDiagonal) return;
  spec.options.query_weighted_codes = codes == KeyCodes::kWeighted;
}

// What has no effect is the same everywhere, so that equal caches compare equal.
void Normalize(CacheSpec& spec) {
  if (!Quantizes(spec.options.format.keys)) spec.options.key_map = KeyMapKind::kNone;
  if (spec.options.key_map == KeyMapKind::kNone) spec.key_map_tokens = 0;
  for (KvSideOptions* side : {&spec.options.format.keys, &spec.options.format.values}) {
    if (!Quantizes(*side)) *side = {.method = side->method};
  }
}

bool SameCache(const CacheSpec& a, const CacheSpec& b) {
  return a.options.format.keys == b.options.format.keys &&
         a.options.format.values == b.options.format.values &&
         Describe(a.options) == Describe(b.options) && a.options.key_map == b.options.key_map &&
         a.options.query_weighted_codes == b.options.query_weighted_codes &&
         a.key_map_tokens == b.key_map_tokens;
}

}  // namespace

std::string_view KvMethodName(KvMethod method) { return kMethodNames[static_cast<size_t>(method)]; }

std::string_view KeyMapKindName(KeyMapKind kind) { return kMapNames[static_cast<size_t>(kind)]; }

double NominalBits(const KvSideOptions& side) {
  if (side.method == KvMethod::kF32) return 32;
  return side.method == KvMethod::kF16 ? 16 : side.bits;
}

std::string WidthsName(std::string_view key_method, double key_bits, std::string_view value_method,
                       double value_bits) {
  const auto side = [](std::string_view method, double bits) {
    return method == "mse" ? fmt::format("{}", bits)
                           : fmt::format("{}{}", method == "prod" ? "prod" : "f", bits);
  };
  return fmt::format("K{}V{}", side(key_method, key_bits), side(value_method, value_bits));
}

Result<KvMethod> ParseKvMethod(std::string_view name) {
  return ParseName<KvMethod>("method of keys or values", name, kMethodNames);
}

Result<KeyMapKind> ParseKeyMapKind(std::string_view name) {
  return ParseName<KeyMapKind>("key map", name, kMapNames);
}

Result<ScaleSearch> ParseScaleSearch(std::string_view name) {
  return ParseName<ScaleSearch>("scale search", name, kSearchNames);
}

Result<KeyCodes> ParseKeyCodes(std::string_view name) {
  return ParseName<KeyCodes>("key codes", name, kCodesNames);
}

std::string_view ScaleSearchName(const KvFormatOptions& format) {
  const auto told = [&](bool on) {
    return std::ranges::any_of(std::array{format.keys, format.values},
                               [&](const KvSideOptions& side) {
                                 return side.method == KvMethod::kMse && side.scale_search == on;
                               });
  };
  if (told(true)) return "on";
  return told(false) ? "off" : "auto";
}

std::string_view KeyCodesName(const KvCacheOptions& options) {
  if (!options.query_weighted_codes) return "auto";
  return *options.query_weighted_codes ? "weighted" : "nearest";
}

std::string ChoicesInName(std::string_view policy, std::string_view scale_search,
                          std::string_view key_codes) {
  std::string name;
  const bool own = policy == "paper" || policy == "peer";
  if (scale_search == "on") name += ", search on";
  if (scale_search == "off" && !own) name += ", search off";
  if (key_codes == "nearest" || key_codes == "weighted")
    name += ", " + std::string(key_codes) + " codes";
  return name;
}

std::vector<std::string> CachePolicyNames() { return {kPolicies.begin(), kPolicies.end()}; }

bool IsCachePolicy(std::string_view name) {
  return std::ranges::find(kPolicies, name) != kPolicies.end();
}

Result<std::vector<CacheSpec>> ExpandCaches(const CacheChoices& choices) {
  std::vector<CacheSpec> all;
  for (const std::string& policy : choices.policies) {
    CacheSpec spec;
    spec.policy = policy;
    TQ_TRY(spec.options, PolicyOptions(policy, 0, 1));
    std::vector<CacheSpec> specs = {spec};
    Multiply(specs, choices.key_methods,
             [](CacheSpec& s, KvMethod m) { s.options.format.keys.method = m; });
    Multiply(specs, choices.value_methods,
             [](CacheSpec& s, KvMethod m) { s.options.format.values.method = m; });
    Multiply(specs, choices.key_bits, [](CacheSpec& s, int b) { s.options.format.keys.bits = b; });
    Multiply(specs, choices.value_bits,
             [](CacheSpec& s, int b) { s.options.format.values.bits = b; });
    Multiply(specs, choices.scale_searches, SetScaleSearch);
    Multiply(specs, choices.sinks, [](CacheSpec& s, size_t n) { s.options.sinks = n; });
    Multiply(specs, choices.windows, [](CacheSpec& s, size_t n) { s.options.window = n; });
    Multiply(specs, choices.key_maps, [](CacheSpec& s, KeyMapKind k) { s.options.key_map = k; });
    Multiply(specs, choices.key_codes, SetKeyCodes);
    Multiply(specs, choices.key_map_tokens, [](CacheSpec& s, size_t n) { s.key_map_tokens = n; });
    for (CacheSpec& one : specs) {
      if (one.options.format.values.method == KvMethod::kProd) {
        return Fail(ErrorCode::kInvalidArgument,
                    "values have no method prod: its reconstructions are too noisy to be summed");
      }
      Normalize(one);
      const bool known =
          std::ranges::any_of(all, [&](const CacheSpec& other) { return SameCache(one, other); });
      if (!known) all.push_back(std::move(one));
    }
  }
  return all;
}

std::vector<CacheSpec> BaselinesBeside(const std::vector<CacheSpec>& caches) {
  std::vector<CacheSpec> baselines;
  const auto same_exact_tokens = [](const CacheSpec& a, const CacheSpec& b) {
    return a.options.sinks == b.options.sinks && a.options.window == b.options.window &&
           a.WaitsForMap() == b.WaitsForMap();
  };
  for (const CacheSpec& cache : caches) {
    if (std::ranges::any_of(baselines,
                            [&](const CacheSpec& b) { return same_exact_tokens(b, cache); })) {
      continue;
    }
    for (const MethodKind kind : AllMethods()) {
      if (!IsBaseline(kind)) continue;
      CacheSpec& spec = baselines.emplace_back();
      spec.options.sinks = cache.options.sinks;
      spec.options.window = cache.options.window;
      spec.options.format.keys = spec.options.format.values = {.method = KvMethod::kF32};
      spec.options.key_map = cache.WaitsForMap() ? cache.options.key_map : KeyMapKind::kNone;
      spec.key_map_tokens = 0;
      spec.baseline = kind;
    }
  }
  return baselines;
}

}  // namespace turboquant::eval
