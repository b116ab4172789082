// Fields of a JSON object, with errors that name file, field and what stands there.
#ifndef TURBOQUANT_SRC_ONNX_CONFIG_FIELDS_H_
#define TURBOQUANT_SRC_ONNX_CONFIG_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

// A field that is absent or null is not there. Errors of all calls: kModel.
class ConfigFields {
 public:
  // Refuses what is no JSON object. `where` is the file's name.
  [[nodiscard]] static Result<ConfigFields> Parse(std::string_view text, std::string where);

  const std::string& where() const { return where_; }
  bool Has(std::string_view name) const { return Find(name) != nullptr; }

  // A whole number from `least` to `most`, under any of the names; two names must agree.
  [[nodiscard]] Result<std::optional<size_t>> Whole(std::initializer_list<std::string_view> names,
                                                    size_t least, size_t most) const;
  [[nodiscard]] Result<size_t> RequiredWhole(std::initializer_list<std::string_view> names,
                                             size_t least, size_t most) const;
  // A finite number above 0.
  [[nodiscard]] Result<std::optional<double>> Positive(std::string_view name) const;
  [[nodiscard]] Result<std::optional<std::string>> Text(std::string_view name) const;
  [[nodiscard]] Result<std::vector<std::string>> Texts(std::string_view name) const;
  // A token id or a list of them; none where the field is absent.
  [[nodiscard]] Result<std::vector<int64_t>> Tokens(std::string_view name) const;
  // An object inside this one.
  [[nodiscard]] Result<std::optional<ConfigFields>> Object(std::string_view name) const;

 private:
  ConfigFields(nlohmann::json json, std::string where)
      : json_(std::move(json)), where_(std::move(where)) {}
  const nlohmann::json* Find(std::string_view name) const;
  std::unexpected<Error> Wrong(std::string_view name, std::string_view wanted,
                               const nlohmann::json& got) const;

  nlohmann::json json_;
  std::string where_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_ONNX_CONFIG_FIELDS_H_
