#include "src/onnx/config_fields.h"

#include <cmath>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;  // of objects in one another: what is deeper is not built
constexpr size_t kMaxTokenId = size_t{1} << 31;

// A value for a message: short, whatever the file holds.
std::string Shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 40) + "...";
  return text;
}

std::optional<size_t> WholeNumber(const Json& value) {
  if (value.is_number_unsigned()) return value.get<size_t>();
  return std::nullopt;  // also for 12.0: no configuration that exists has such
}

}  // namespace

Result<ConfigFields> ConfigFields::Parse(std::string_view text, std::string where) {
  bool too_deep = false;
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  Json json = Json::parse(text, shallow, /*allow_exceptions=*/false);
  if (too_deep) return Fail(ErrorCode::kModel, where, " is nested deeper than ", kMaxDepth);
  if (!json.is_object()) return Fail(ErrorCode::kModel, where, " is not a JSON object");
  return ConfigFields(std::move(json), std::move(where));
}

const Json* ConfigFields::Find(std::string_view name) const {
  const auto found = json_.find(name);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

std::unexpected<Error> ConfigFields::Wrong(std::string_view name, std::string_view wanted,
                                           const Json& got) const {
  return Fail(ErrorCode::kModel, where_, ": ", name, " must be ", wanted, ", got ", Shown(got));
}

Result<std::optional<size_t>> ConfigFields::Whole(std::initializer_list<std::string_view> names,
                                                  size_t least, size_t most) const {
  std::optional<size_t> number;
  for (const std::string_view name : names) {
    const Json* value = Find(name);
    if (value == nullptr) continue;
    const std::optional<size_t> read = WholeNumber(*value);
    if (!read || *read < least || *read > most) {
      return Wrong(name, std::to_string(least) + " to " + std::to_string(most), *value);
    }
    if (number && *number != *read) {
      return Fail(ErrorCode::kModel, where_, ": ", name, " is ", *read, ", ", *names.begin(),
                  " is ", *number);
    }
    number = read;
  }
  return number;
}

Result<size_t> ConfigFields::RequiredWhole(std::initializer_list<std::string_view> names,
                                           size_t least, size_t most) const {
  TQ_TRY(const std::optional<size_t> number, Whole(names, least, most));
  if (!number) return Fail(ErrorCode::kModel, where_, " has no ", *names.begin());
  return *number;
}

Result<std::optional<double>> ConfigFields::Positive(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : 0.0;
  if (!std::isfinite(number) || number <= 0.0) return Wrong(name, "a number above 0", *value);
  return number;
}

Result<std::optional<std::string>> ConfigFields::Text(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Wrong(name, "a string", *value);
  return value->get<std::string>();
}

Result<std::vector<std::string>> ConfigFields::Texts(std::string_view name) const {
  std::vector<std::string> texts;
  const Json* value = Find(name);
  if (value == nullptr) return texts;
  if (!value->is_array()) return Wrong(name, "a list of strings", *value);
  for (const Json& text : *value) {
    if (!text.is_string()) return Wrong(name, "a list of strings", text);
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

Result<std::vector<int64_t>> ConfigFields::Tokens(std::string_view name) const {
  std::vector<int64_t> tokens;
  const Json* value = Find(name);
  if (value == nullptr) return tokens;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& token : list) {
    const std::optional<size_t> id = WholeNumber(token);
    if (!id || *id >= kMaxTokenId) return Wrong(name, "a token id or a list of them", token);
    tokens.push_back(static_cast<int64_t>(*id));
  }
  return tokens;
}

Result<std::optional<ConfigFields>> ConfigFields::Object(std::string_view name) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) return Wrong(name, "an object", *value);
  return ConfigFields(*value, where_ + ": " + std::string(name));
}

}  // namespace turboquant
