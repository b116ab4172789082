#include "src/storage/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "src/base/failure.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

// Takes the events of the parser in turn and builds no document: nothing nests deeper than the
// format does, and a name given twice is seen before it is lost. Each event returns false to stop.
class HeaderReader {
 public:
  SafetensorsHeader& header() { return header_; }
  const std::string& error() const { return error_; }

  bool null() { return Refuse("null"); }
  bool boolean(bool) { return Refuse("true or false"); }
  bool number_integer(int64_t) { return Refuse("a negative number"); }
  bool number_float(double, const std::string&) { return Refuse("a number that is not whole"); }
  template <class Binary>
  bool binary(Binary&) {
    return Refuse("binary data");
  }

  bool number_unsigned(uint64_t number) {
    if (place_ == Place::kShape) {
      tensor_.shape.push_back(number);
      return true;
    }
    if (place_ == Place::kOffsets && offsets_ < 2) {
      (offsets_ == 0 ? tensor_.begin : tensor_.end) = number;
      ++offsets_;
      return true;
    }
    return Refuse("a number");
  }

  bool string(std::string& text) {
    if (place_ == Place::kMetadata) {
      if (header_.metadata.try_emplace(key_, std::move(text)).second) return true;
      return Stop("metadata key " + Quoted(key_) + " is given twice");
    }
    if (place_ == Place::kTensor && key_ == "dtype") {
      tensor_.dtype = std::move(text);
      return true;
    }
    return Refuse("a string");
  }

  bool start_object(size_t) {
    if (place_ == Place::kBefore) {
      place_ = Place::kTop;
      return true;
    }
    if (place_ != Place::kTop) return Refuse("an object");
    place_ = name_ == kMetadataKey ? Place::kMetadata : Place::kTensor;
    tensor_ = {};
    fields_ = 0;
    return true;
  }

  bool key(std::string& key) {
    if (place_ == Place::kTop) return StartName(std::move(key));
    if (place_ == Place::kTensor) {
      const unsigned field = key == "dtype"          ? kDtype
                             : key == "shape"        ? kShape
                             : key == "data_offsets" ? kOffsets
                                                     : 0u;
      if (field == 0) return Stop("tensor " + Quoted(name_) + " has unknown field " + Quoted(key));
      if (fields_ & field) return Stop("tensor " + Quoted(name_) + " has " + key + " twice");
      fields_ |= field;
    }
    key_ = std::move(key);
    return true;
  }

  bool end_object() {
    if (place_ == Place::kTensor) {
      for (const auto& [field, name] : {std::pair{kDtype, "dtype"}, std::pair{kShape, "shape"},
                                        std::pair{kOffsets, "data_offsets"}}) {
        if (!(fields_ & field)) return Stop("tensor " + Quoted(name_) + " has no " + name);
      }
      header_.tensors.emplace(name_, std::move(tensor_));
    }
    place_ = place_ == Place::kTop ? Place::kBehind : Place::kTop;
    return true;
  }

  bool start_array(size_t) {
    if (place_ != Place::kTensor || key_ == "dtype") return Refuse("an array");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      return Stop("tensor " + Quoted(name_) + " has data_offsets that are not two numbers");
    }
    place_ = Place::kTensor;
    return true;
  }

  template <class Exception>
  bool parse_error(size_t position, const std::string&, const Exception&) {
    return Stop("the header is no valid JSON at its byte " + std::to_string(position));
  }

 private:
  enum class Place { kBefore, kTop, kMetadata, kTensor, kShape, kOffsets, kBehind };
  static constexpr unsigned kDtype = 1;
  static constexpr unsigned kShape = 2;
  static constexpr unsigned kOffsets = 4;

  bool StartName(std::string name) {
    if (name == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) return Stop("the header has two __metadata__");
    } else if (header_.tensors.contains(name)) {
      return Stop("tensor " + Quoted(name) + " is given twice");
    }
    name_ = std::move(name);
    return true;
  }

  bool Refuse(const char* found) {
    switch (place_) {
      case Place::kBefore:
      case Place::kBehind:
        return Stop(std::string("the header is ") + found + ", not an object");
      case Place::kTop:
        return Stop(Quoted(name_) + " is " + found + ", not an object");
      case Place::kMetadata:
        return Stop("metadata " + Quoted(key_) + " is " + found + ", not a string");
      case Place::kOffsets:
      case Place::kShape:
      case Place::kTensor:
        return Stop("tensor " + Quoted(name_) + " has " + found + " in its " + key_);
    }
    return Stop("the header is malformed");
  }

  bool Stop(std::string error) {
    error_ = std::move(error);
    return false;
  }

  SafetensorsHeader header_;
  std::string error_;
  Place place_ = Place::kBefore;
  std::string name_;  // key of the outer object
  std::string key_;   // key of the inner one
  HeaderTensor tensor_;
  unsigned fields_ = 0;
  int offsets_ = 0;
  bool has_metadata_ = false;
};

// JSON lets all but quotes, backslashes and control characters stand for themselves.
void AppendString(std::string_view text, std::string& json) {
  json += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20u) {
      json += "\\u" + Hex32(static_cast<unsigned char>(c)).substr(4);
    } else {
      json += c;
    }
  }
  json += '"';
}

void AppendTensor(const HeaderTensor& tensor, std::string& json) {
  json += "{\"dtype\":";
  AppendString(tensor.dtype, json);
  json += ",\"shape\":[";
  for (size_t axis = 0; axis < tensor.shape.size(); ++axis) {
    if (axis > 0) json += ',';
    json += std::to_string(tensor.shape[axis]);
  }
  json += "],\"data_offsets\":[" + std::to_string(tensor.begin) + ',' + std::to_string(tensor.end) +
          "]}";
}

}  // namespace

Result<SafetensorsHeader> ParseHeader(std::string_view json) {
  if (json.empty() || json[0] != '{') {
    return Fail(ErrorCode::kCorruptData, "the header does not begin with '{'");
  }
  // The parser takes a zero byte for the end of the text and would not look behind it.
  if (const size_t zero = json.find('\0'); zero != json.npos) {
    return Fail(ErrorCode::kCorruptData, "the header has a zero byte at its byte ", zero);
  }
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) {
    return Fail(ErrorCode::kCorruptData, reader.error());
  }
  return std::move(reader.header());
}

std::string FormatHeader(const SafetensorsHeader& header) {
  std::string json = "{\"__metadata__\":{";
  for (const auto& [key, text] : header.metadata) {
    if (json.back() != '{') json += ',';
    AppendString(key, json);
    json += ':';
    AppendString(text, json);
  }
  json += '}';
  for (const auto& [name, tensor] : header.tensors) {
    json += ',';
    AppendString(name, json);
    json += ':';
    AppendTensor(tensor, json);
  }
  json += '}';
  return json;
}

}  // namespace turboquant
