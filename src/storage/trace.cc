#include "turboquant/trace.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/checked_tensors.h"
#include "src/storage/tensor_elements.h"
#include "src/storage/text.h"

namespace turboquant {

// Reads the heads of one file; a friend of what it fills in.
class TraceReader {
 public:
  explicit TraceReader(const SafetensorsFile& file) : file_(file) {}
  [[nodiscard]] Result<KvTrace> Read() const;

 private:
  [[nodiscard]] Result<std::vector<TraceHead>> ReadHeads() const;
  [[nodiscard]] Result<void> ReadHead(const std::string& prefix, TraceHead& head) const;
  [[nodiscard]] Result<void> ReadPositions(const std::string& name, const TensorView& queries,
                                           TraceHead& head) const;
  [[nodiscard]] Result<const TensorView*> Require(const std::string& name) const;

  const SafetensorsFile& file_;
};

namespace {

constexpr FileFormat kTraceFormat = {"turboquant.trace", 1};

// [samples, rows, dim]; a tensor of rank 2 is one sample.
struct TraceShape {
  size_t samples;
  size_t rows;
  size_t dim;
};

Result<TraceShape> ShapeOf(const TensorView& tensor) {
  const std::vector<size_t>& shape = tensor.shape;
  if (shape.size() != 2 && shape.size() != 3) {
    return Fail(ErrorCode::kDimensionMismatch, "tensor ", Quoted(tensor.name), " has shape ",
                ShapeText(shape), "; it must be tokens × dim or samples × tokens × dim");
  }
  if (shape.back() == 0) {
    return Fail(ErrorCode::kDimensionMismatch, "tensor ", Quoted(tensor.name), " has shape ",
                ShapeText(shape), ", so its rows are empty");
  }
  return TraceShape{shape.size() == 3 ? shape[0] : 1, shape[shape.size() - 2], shape.back()};
}

Result<std::vector<float>> ReadFiniteRows(const TensorView& tensor, const TraceShape& shape,
                                          std::string_view row_name) {
  TQ_TRY(std::vector<float> rows, ReadFloats(tensor));
  for (size_t i = 0; i < rows.size(); ++i) {
    if (std::isfinite(rows[i])) continue;
    const size_t row = i / shape.dim;
    return Fail(ErrorCode::kNonFinite, "tensor ", Quoted(tensor.name), " has ",
                static_cast<double>(rows[i]), " at sample ", row / shape.rows, ", ", row_name, " ",
                row % shape.rows, ", column ", i % shape.dim);
  }
  return rows;
}

// Element i as a number, or nullopt if it is negative.
std::optional<uint64_t> PositionAt(const TensorView& tensor, size_t i) {
  const auto checked = [](auto position) -> std::optional<uint64_t> {
    if (std::cmp_less(position, 0)) return std::nullopt;
    return static_cast<uint64_t>(position);
  };
  switch (tensor.type) {
    case TensorType::kI32:
      return checked(LoadElement<int32_t>(tensor.bytes, i));
    case TensorType::kI64:
      return checked(LoadElement<int64_t>(tensor.bytes, i));
    case TensorType::kU32:
      return checked(LoadElement<uint32_t>(tensor.bytes, i));
    default:
      return checked(LoadElement<uint64_t>(tensor.bytes, i));
  }
}

bool HoldsPositions(TensorType type) {
  return type == TensorType::kI32 || type == TensorType::kI64 || type == TensorType::kU32 ||
         type == TensorType::kU64;
}

// As stored, for messages.
std::string PositionText(const TensorView& tensor, size_t i) {
  if (tensor.type == TensorType::kI32) {
    return std::to_string(LoadElement<int32_t>(tensor.bytes, i));
  }
  if (tensor.type == TensorType::kI64) {
    return std::to_string(LoadElement<int64_t>(tensor.bytes, i));
  }
  return std::to_string(*PositionAt(tensor, i));
}

struct HeadName {
  uint64_t layer;
  uint64_t head;
  auto operator<=>(const HeadName&) const = default;
};

std::string PrefixOf(const HeadName& name) {
  return "layers." + std::to_string(name.layer) + ".heads." + std::to_string(name.head) + ".";
}

constexpr std::string_view kParts[] = {"keys", "values", "queries", "query_positions"};

bool IsPart(std::string_view name) { return std::ranges::find(kParts, name) != std::end(kParts); }

// "layers.3.heads.0.keys" belongs to head {3, 0}; nullopt for names that are no part of a head.
std::optional<HeadName> ParseHeadName(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  constexpr std::string_view kHeads = ".heads.";
  if (!name.starts_with(kLayers)) return std::nullopt;
  name.remove_prefix(kLayers.size());
  const size_t heads = name.find(kHeads);
  if (heads == name.npos) return std::nullopt;
  const std::optional<uint64_t> layer = ParseDecimal(name.substr(0, heads));
  name.remove_prefix(heads + kHeads.size());
  const size_t dot = name.find('.');
  if (dot == name.npos || !IsPart(name.substr(dot + 1))) return std::nullopt;
  const std::optional<uint64_t> head = ParseDecimal(name.substr(0, dot));
  if (!layer || !head) return std::nullopt;
  return HeadName{*layer, *head};
}

// Metadata that may be absent, but must be a number where it is.
Result<std::optional<uint64_t>> OptionalNumber(const StringMap& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  const std::optional<uint64_t> number = ParseDecimal(found->second);
  if (number) return number;
  return Fail(ErrorCode::kCorruptData, "metadata '", key, "' is ", Quoted(found->second),
              ", not a whole number");
}

Result<std::string> RequiredText(const StringMap& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  if (found != metadata.end()) return found->second;
  return Fail(ErrorCode::kCorruptData, "metadata has 'rope' but no '", key, "'");
}

template <class Enum>
Result<Enum> RequiredChoice(const StringMap& metadata, const std::string& key, std::string_view a,
                            Enum if_a, std::string_view b, Enum if_b) {
  TQ_TRY(const std::string text, RequiredText(metadata, key));
  if (text == a) return if_a;
  if (text == b) return if_b;
  return Fail(ErrorCode::kCorruptData, "metadata '", key, "' is ", Quoted(text), ", not '", a,
              "' or '", b, "'");
}

Result<double> RequiredTheta(const StringMap& metadata) {
  TQ_TRY(const std::string text, RequiredText(metadata, "rope_theta"));
  double theta = 0.0;
  const char* text_end = text.data() + text.size();
  const auto [end, status] = std::from_chars(text.data(), text_end, theta);
  if (status == std::errc() && end == text_end && std::isfinite(theta) && theta > 0.0) {
    return theta;
  }
  return Fail(ErrorCode::kCorruptData, "metadata 'rope_theta' is ", Quoted(text),
              ", not a finite number above 0");
}

Result<uint64_t> RequiredNumber(const StringMap& metadata, const std::string& key) {
  TQ_CHECK(RequiredText(metadata, key));
  TQ_TRY(const std::optional<uint64_t> number, OptionalNumber(metadata, key));
  return *number;
}

Result<std::optional<TraceRope>> ReadRope(const StringMap& metadata,
                                          std::span<const TraceHead> heads) {
  if (!metadata.contains("rope")) return std::nullopt;
  TraceRope rope{};
  TQ_TRY(rope.state, RequiredChoice(metadata, "rope", "pre", TraceRope::State::kPre, "post",
                                    TraceRope::State::kPost));
  TQ_TRY(rope.theta, RequiredTheta(metadata));
  TQ_TRY(rope.pairing, RequiredChoice(metadata, "rope_pairing", "half", TraceRope::Pairing::kHalf,
                                      "interleaved", TraceRope::Pairing::kInterleaved));
  TQ_TRY(rope.rotary_dim, RequiredNumber(metadata, "rotary_dim"));
  TQ_TRY(rope.first_position, RequiredNumber(metadata, "first_position"));
  for (const TraceHead& head : heads) {
    if (rope.rotary_dim < 2 || rope.rotary_dim % 2 != 0 || rope.rotary_dim > head.head_dim()) {
      return Fail(ErrorCode::kCorruptData, "metadata 'rotary_dim' is ", rope.rotary_dim,
                  ", not an even number from 2 to head_dim ", head.head_dim());
    }
    if (!CheckedAdd(rope.first_position, head.tokens())) {
      return Fail(ErrorCode::kCorruptData, "metadata 'first_position' is ", rope.first_position,
                  ", so that positions overflow");
    }
  }
  return rope;
}

}  // namespace

Result<const TensorView*> TraceReader::Require(const std::string& name) const {
  if (const TensorView* tensor = file_.Find(name)) return tensor;
  return Fail(ErrorCode::kCorruptData, "tensor ", Quoted(name), " is missing");
}

Result<void> TraceReader::ReadPositions(const std::string& name, const TensorView& queries,
                                        TraceHead& head) const {
  const TensorView* tensor = file_.Find(name);
  if (!tensor) {
    head.positions_.resize(head.total_queries());
    const bool one_each = head.queries_ == head.tokens_;
    for (size_t i = 0; i < head.positions_.size(); ++i) {
      head.positions_[i] = one_each ? i % head.queries_ : head.tokens_ - 1;
    }
    return {};
  }
  if (!HoldsPositions(tensor->type)) {
    return Fail(ErrorCode::kUnsupported, "tensor ", Quoted(name), " has dtype ",
                TensorTypeName(tensor->type), "; positions must be I32, I64, U32 or U64");
  }
  const std::span<const size_t> expected(queries.shape.data(), queries.shape.size() - 1);
  if (!std::ranges::equal(tensor->shape, expected)) {
    return Fail(ErrorCode::kDimensionMismatch, "tensor ", Quoted(name), " has shape ",
                ShapeText(tensor->shape), ", the queries ask for ", ShapeText(expected));
  }
  head.positions_.reserve(head.total_queries());
  for (size_t i = 0; i < head.total_queries(); ++i) {
    const std::optional<uint64_t> position = PositionAt(*tensor, i);
    if (!position || *position >= head.tokens_) {
      return Fail(ErrorCode::kCorruptData, "tensor ", Quoted(name), " has ",
                  PositionText(*tensor, i), " at sample ", i / head.queries_, ", query ",
                  i % head.queries_, ", not a position from 0 to ", head.tokens_ - 1);
    }
    head.positions_.push_back(*position);
  }
  return {};
}

Result<void> TraceReader::ReadHead(const std::string& prefix, TraceHead& head) const {
  TQ_TRY(const TensorView* keys, Require(prefix + "keys"));
  TQ_TRY(const TensorView* values, Require(prefix + "values"));
  TQ_TRY(const TensorView* queries, Require(prefix + "queries"));
  TQ_TRY(const TraceShape shape, ShapeOf(*keys));
  TQ_TRY(const TraceShape query_shape, ShapeOf(*queries));
  if (values->shape != keys->shape) {
    return Fail(ErrorCode::kDimensionMismatch, "tensor ", Quoted(values->name), " has shape ",
                ShapeText(values->shape), ", the keys have ", ShapeText(keys->shape));
  }
  if (query_shape.samples != shape.samples || query_shape.dim != shape.dim) {
    return Fail(ErrorCode::kDimensionMismatch, "tensor ", Quoted(queries->name), " has shape ",
                ShapeText(queries->shape), ", which does not go with keys of ",
                ShapeText(keys->shape));
  }
  if (shape.samples == 0 || shape.rows == 0) {
    return Fail(ErrorCode::kDimensionMismatch, "tensor ", Quoted(keys->name), " has shape ",
                ShapeText(keys->shape), ", so there are no tokens");
  }
  head.samples_ = shape.samples;
  head.tokens_ = shape.rows;
  head.queries_ = query_shape.rows;
  head.dim_ = shape.dim;
  TQ_TRY(head.keys_, ReadFiniteRows(*keys, shape, "token"));
  TQ_TRY(head.values_, ReadFiniteRows(*values, shape, "token"));
  TQ_TRY(head.query_rows_, ReadFiniteRows(*queries, query_shape, "query"));
  return ReadPositions(prefix + "query_positions", *queries, head);
}

Result<std::vector<TraceHead>> TraceReader::ReadHeads() const {
  std::map<HeadName, TraceHead> heads;
  bool has_bare_part = false;
  for (const TensorView& tensor : file_.tensors()) {
    has_bare_part |= IsPart(tensor.name);
    if (const auto name = ParseHeadName(tensor.name)) {
      TraceHead head;
      head.layer_ = name->layer;
      head.head_ = name->head;
      heads.emplace(*name, std::move(head));
    }
  }
  if (has_bare_part && !heads.empty()) {
    return Fail(ErrorCode::kCorruptData, "the trace has tensors of ", heads.size(),
                " heads by name, and others of a head without a name");
  }
  std::vector<TraceHead> all;
  if (heads.empty()) {
    TraceHead head;
    TQ_TRY(head.layer_, OptionalNumber(file_.metadata(), "layer"));
    TQ_TRY(head.head_, OptionalNumber(file_.metadata(), "head"));
    TQ_CHECK(ReadHead("", head));
    all.push_back(std::move(head));
  }
  for (auto& [name, head] : heads) {
    TQ_CHECK(ReadHead(PrefixOf(name), head));
    all.push_back(std::move(head));
  }
  return all;
}

Result<KvTrace> TraceReader::Read() const {
  TQ_CHECK(VerifyWherePresent(file_, kTraceFormat));
  KvTrace trace;
  TQ_TRY(trace.heads_, ReadHeads());
  TQ_TRY(trace.rope_, ReadRope(file_.metadata(), trace.heads_));
  trace.metadata_ = file_.metadata();
  return trace;
}

Result<KvTrace> KvTrace::Load(const std::filesystem::path& path) {
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::Open(path, UnknownTensors::kKeep));
  return InFile(path, TraceReader(file).Read());
}

Result<KvTrace> KvTrace::FromBytes(std::span<const std::byte> bytes) {
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::FromBytes(bytes, UnknownTensors::kKeep));
  return TraceReader(file).Read();
}

}  // namespace turboquant
