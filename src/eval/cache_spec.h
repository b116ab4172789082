// Which caches a benchmark compares.
#ifndef TURBOQUANT_SRC_EVAL_CACHE_SPEC_H_
#define TURBOQUANT_SRC_EVAL_CACHE_SPEC_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/eval/method.h"
#include "turboquant/error.h"
#include "turboquant/kv_cache.h"

namespace turboquant::eval {

// Tokens that a key map is made from unless told otherwise.
inline constexpr size_t kDefaultKeyMapTokens = 256;

struct CacheSpec {
  std::string policy;  // a name of PolicyOptions, from which the options differ by explicit choices
  KvCacheOptions options;  // what depends on the data (head_dim, rope, ...) is not set
  // The key map is made from the first so many tokens and known before the first is packed. 0: the
  // cache keeps its first tokens exact until it can make its own.
  size_t key_map_tokens = kDefaultKeyMapTokens;
  // Rows of this format in place of packed ones; the options say which tokens are exact.
  std::optional<MethodKind> baseline = {};

  // Whether a cache would estimate its own map, given that there is rope.
  bool WaitsForMap() const { return options.key_map != KeyMapKind::kNone && key_map_tokens == 0; }
};

// Of the sides that have one: MSE of 1 to 7 bits.
enum class ScaleSearch { kOff, kOn };

// Of MSE keys behind a diagonal map.
enum class KeyCodes { kNearest, kWeighted };

// Explicit choices; an empty list leaves it to the policy.
struct CacheChoices {
  std::vector<std::string> policies;
  std::vector<int> key_bits;
  std::vector<int> value_bits;
  std::vector<KvMethod> key_methods;
  std::vector<KvMethod> value_methods;
  std::vector<ScaleSearch> scale_searches;
  std::vector<size_t> sinks;
  std::vector<size_t> windows;
  std::vector<KeyMapKind> key_maps;
  std::vector<KeyCodes> key_codes;
  std::vector<size_t> key_map_tokens;
};

std::string_view KvMethodName(KvMethod method);    // "mse", "prod", "f16", "f32"
std::string_view KeyMapKindName(KeyMapKind kind);  // "none", "center", "diagonal", "full"
double NominalBits(const KvSideOptions& side);     // 16 and 32 where nothing is quantized

// "K4V4", "K8V4", "KprodV4": short, for tables and charts.
std::string WidthsName(std::string_view key_method, double key_bits, std::string_view value_method,
                       double value_bits);

// "on" and "off" where keys or values were told so, "auto" where the format decides by their bits.
std::string_view ScaleSearchName(const KvFormatOptions& format);

// "nearest" and "weighted" where the cache was told so, "auto" where it decides by its options.
std::string_view KeyCodesName(const KvCacheOptions& options);

// What a cache's name says of search and key codes: empty where they are the policy's own.
std::string ChoicesInName(std::string_view policy, std::string_view scale_search,
                          std::string_view key_codes);

// Errors: kInvalidArgument listing the known names.
[[nodiscard]] Result<KvMethod> ParseKvMethod(std::string_view name);
[[nodiscard]] Result<KeyMapKind> ParseKeyMapKind(std::string_view name);
[[nodiscard]] Result<ScaleSearch> ParseScaleSearch(std::string_view name);  // "off", "on"
[[nodiscard]] Result<KeyCodes> ParseKeyCodes(std::string_view name);        // "nearest", "weighted"

// Policies of caches, which are not all policies of quantizers.
std::vector<std::string> CachePolicyNames();
bool IsCachePolicy(std::string_view name);

// Every combination, each once. Errors: kInvalidArgument for an unknown policy; for prod values,
// which are too noisy to be summed.
[[nodiscard]] Result<std::vector<CacheSpec>> ExpandCaches(const CacheChoices& choices);

// Every baseline format with each set of exact tokens that the caches have.
std::vector<CacheSpec> BaselinesBeside(const std::vector<CacheSpec>& caches);

// What a row says of the cache, or of the format in its place, whatever kind of row it is.
template <class Row>
void DescribeCacheSpec(const CacheSpec& spec, Row& row) {
  const KvFormatOptions& format = spec.options.format;
  row.method = "cache";
  row.policy = spec.policy;
  row.key_method = KvMethodName(format.keys.method);
  row.key_bits = NominalBits(format.keys);
  row.value_method = KvMethodName(format.values.method);
  row.value_bits = NominalBits(format.values);
  row.scale_search = ScaleSearchName(format);
  row.key_codes = KeyCodesName(spec.options);
  if (spec.baseline) {
    row.scale_search.clear();
    row.key_codes.clear();
    row.method = row.key_method = row.value_method = MethodName(*spec.baseline);
    row.key_bits = row.value_bits = FixedBits(*spec.baseline);
  }
  row.bits = (row.key_bits + row.value_bits) / 2;
  row.sinks = spec.options.sinks;
  row.window = spec.options.window;
  row.key_map_tokens = row.key_map == "none" ? 0 : spec.key_map_tokens;
}

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_CACHE_SPEC_H_
