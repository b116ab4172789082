// Checks a document against the part of JSON Schema that docs/benchmark.schema.json uses. A keyword
// outside that part is a failure, not a silent pass.
#ifndef TURBOQUANT_TESTS_EVAL_JSON_SCHEMA_H_
#define TURBOQUANT_TESTS_EVAL_JSON_SCHEMA_H_

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace turboquant::test {

class JsonSchema {
 public:
  explicit JsonSchema(nlohmann::json schema) : schema_(std::move(schema)) {}

  // What is wrong, one line each; empty for a valid document.
  std::vector<std::string> Validate(const nlohmann::json& document) const {
    std::vector<std::string> faults;
    Check(schema_, document, "$", faults);
    return faults;
  }

 private:
  using Json = nlohmann::json;
  using Faults = std::vector<std::string>;

  static bool HasType(const std::string& type, const Json& node) {
    if (type == "object") return node.is_object();
    if (type == "array") return node.is_array();
    if (type == "string") return node.is_string();
    if (type == "boolean") return node.is_boolean();
    if (type == "null") return node.is_null();
    if (type == "integer") return node.is_number_integer();
    return type == "number" && node.is_number();
  }

  static bool HasAnyType(const Json& types, const Json& node) {
    if (types.is_string()) return HasType(types, node);
    for (const Json& type : types) {
      if (HasType(type, node)) return true;
    }
    return false;
  }

  void CheckObject(const Json& schema, const Json& node, const std::string& path,
                   Faults& faults) const {
    for (const Json& name : schema.value("required", Json::array())) {
      if (!node.contains(name)) faults.push_back(path + ": misses " + name.get<std::string>());
    }
    const Json properties = schema.value("properties", Json::object());
    for (const auto& [name, child] : node.items()) {
      if (properties.contains(name)) {
        Check(properties[name], child, path + "." + name, faults);
      } else if (schema.value("additionalProperties", true) == false) {
        faults.push_back(path + ": unknown " + name);
      }
    }
  }

  static void CheckNumber(const Json& schema, double number, const std::string& path,
                          Faults& faults) {
    const auto breaks = [&](const char* keyword, auto compare) {
      return schema.contains(keyword) && compare(number, schema[keyword].get<double>());
    };
    if (breaks("minimum", std::less<>()) || breaks("maximum", std::greater<>()) ||
        breaks("exclusiveMinimum", std::less_equal<>())) {
      faults.push_back(path + ": out of range: " + std::to_string(number));
    }
  }

  // None of the alternatives: what is wrong with the one that comes closest.
  void CheckAnyOf(const Json& alternatives, const Json& node, const std::string& path,
                  Faults& faults) const {
    Faults fewest;
    for (size_t i = 0; i < alternatives.size(); ++i) {
      Faults found;
      Check(alternatives[i], node, path, found);
      if (i == 0 || found.size() < fewest.size()) fewest = found;
    }
    faults.insert(faults.end(), fewest.begin(), fewest.end());
  }

  void Check(const Json& schema, const Json& node, const std::string& path, Faults& faults) const {
    static const std::set<std::string> kKnown = {
        "$schema",          "title",   "description", "type",       "additionalProperties",
        "required",         "enum",    "const",       "properties", "items",
        "minimum",          "maximum", "$ref",        "$defs",      "minLength",
        "exclusiveMinimum", "anyOf"};
    for (const auto& [keyword, ignored] : schema.items()) {
      if (!kKnown.contains(keyword)) faults.push_back(path + ": unknown keyword " + keyword);
    }
    if (schema.contains("$ref")) {
      const std::string target = schema["$ref"];  // "#/$defs/name"
      return Check(schema_.at(Json::json_pointer(target.substr(1))), node, path, faults);
    }
    if (schema.contains("anyOf")) CheckAnyOf(schema["anyOf"], node, path, faults);
    if (schema.contains("const") && node != schema["const"]) faults.push_back(path + ": not const");
    if (schema.contains("enum") &&
        std::find(schema["enum"].begin(), schema["enum"].end(), node) == schema["enum"].end()) {
      faults.push_back(path + ": not in enum: " + node.dump());
    }
    if (schema.contains("type") && !HasAnyType(schema["type"], node)) {
      faults.push_back(path + ": has the wrong type: " + node.dump());
      return;
    }
    if (node.is_number()) CheckNumber(schema, node.get<double>(), path, faults);
    if (node.is_string() && node.get<std::string>().size() < schema.value("minLength", size_t{0})) {
      faults.push_back(path + ": too short");
    }
    if (node.is_object()) CheckObject(schema, node, path, faults);
    if (node.is_array() && schema.contains("items")) {
      for (size_t i = 0; i < node.size(); ++i) {
        Check(schema["items"], node[i], path + "[" + std::to_string(i) + "]", faults);
      }
    }
  }

  Json schema_;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_EVAL_JSON_SCHEMA_H_
