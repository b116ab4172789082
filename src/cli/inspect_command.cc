#include "src/cli/inspect_command.h"

#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/print_format.h"
#include "src/cli/tensor_rows.h"
#include "turboquant/rows_file.h"
#include "turboquant/safetensors.h"
#include "turboquant/trace.h"

namespace turboquant::cli {
namespace {

void AddTensors(std::span<const TensorView> tensors, FactSheet& facts) {
  for (const TensorView& tensor : tensors) {
    facts.Add("tensor " + tensor.name, TensorSummary(tensor));
  }
}

// Makes the quantizer again and has it accept the rows, as decoding would; returns their dim.
template <class Loaded>
Result<size_t> Accepted(const Result<Loaded>& loaded) {
  if (!loaded) return std::unexpected(loaded.error());
  return loaded->rows.dim();
}

Result<size_t> CheckRows(const EncodedRowsFile& file) {
  if (file.method == "mse") return Accepted(ImportMseRows(file));
  if (file.method == "outlier") return Accepted(ImportOutlierRows(file));
  if (file.method == "prod") return Accepted(ImportProdRows(file));
  if (file.method == "qjl") return Accepted(ImportSignRows(file));
  if (file.method == "polar") return Accepted(ImportPolarRows(file));
  return Fail(ErrorCode::kUnsupported, "method \"", file.method, "\" cannot be decoded");
}

Result<FactSheet> InspectRows(const InspectOptions& options) {
  TQ_TRY(const EncodedRowsFile file, ReadEncodedRows(options.input));
  TQ_TRY(const size_t dim, CheckRows(file));
  FactSheet facts("turboquant.inspect.rows/1");
  facts.Add("file", options.input);
  facts.Add("format", "turboquant.rows");
  facts.Add("method", file.method);
  facts.Add("rows", file.rows);
  facts.Add("bits_per_coordinate", BitsPerCoordinate(file, dim));
  for (const auto& [name, text] : file.options) facts.Add("option " + name, text);
  AddTensors(file.tensors, facts);
  return facts;
}

void AddRope(const KvTrace& trace, FactSheet& facts) {
  if (!trace.rope()) {
    facts.Add("rope", "undeclared");
    return;
  }
  const TraceRope& rope = *trace.rope();
  facts.Add("rope", rope.state == TraceRope::State::kPost ? "post" : "pre");
  facts.Add("rope_theta", rope.theta);
  facts.Add("rope_pairing", rope.pairing == TraceRope::Pairing::kHalf ? "half" : "interleaved");
  facts.Add("rotary_dim", rope.rotary_dim);
  facts.Add("first_position", static_cast<size_t>(rope.first_position));
}

Result<FactSheet> InspectTrace(const InspectOptions& options, const SafetensorsFile& container) {
  TQ_TRY(const KvTrace trace, KvTrace::Load(options.input));
  const TraceHead& first = trace.heads().front();
  FactSheet facts("turboquant.inspect.trace/1");
  facts.Add("file", options.input);
  facts.Add("format", "turboquant.trace");
  facts.Add("heads", trace.heads().size());
  facts.Add("samples", first.sample_count());
  facts.Add("tokens", first.tokens());
  facts.Add("queries", first.queries());
  facts.Add("head_dim", first.head_dim());
  size_t bytes = 0;
  for (const TraceHead& head : trace.heads()) bytes += head.UncompressedBytes();
  facts.Add("uncompressed_bytes", bytes);
  AddRope(trace, facts);
  for (const auto& [name, text] : trace.metadata()) facts.Add("metadata " + name, text);
  AddTensors(container.tensors(), facts);
  return facts;
}

FactSheet InspectContainer(const InspectOptions& options, const SafetensorsFile& container) {
  FactSheet facts("turboquant.inspect.safetensors/1");
  facts.Add("file", options.input);
  facts.Add("format", "safetensors");
  for (const auto& [name, text] : container.metadata()) facts.Add("metadata " + name, text);
  AddTensors(container.tensors(), facts);
  return facts;
}

// A trace may go without declaring itself; then its tensors tell.
bool LooksLikeTrace(const SafetensorsFile& container) {
  const auto format = container.metadata().find("format");
  if (format != container.metadata().end()) return format->second == "turboquant.trace";
  if (container.Find("keys") != nullptr && container.Find("queries") != nullptr) return true;
  return !container.tensors().empty() && container.tensors().front().name.starts_with("layers.") &&
         container.tensors().front().name.find(".heads.") != std::string::npos;
}

Result<FactSheet> Inspect(const InspectOptions& options) {
  TQ_TRY(const SafetensorsFile container,
         SafetensorsFile::Open(options.input, UnknownTensors::kKeep));
  const auto format = container.metadata().find("format");
  if (format != container.metadata().end() && format->second == "turboquant.rows") {
    return InspectRows(options);
  }
  if (LooksLikeTrace(container)) return InspectTrace(options, container);
  return InspectContainer(options, container);
}

}  // namespace

Result<void> RunInspect(const InspectOptions& options, std::ostream& out) {
  TQ_TRY(const PrintFormat format, ParsePrintFormat(options.format));
  TQ_TRY(const FactSheet facts, Inspect(options));
  out << facts.Print(format);
  return {};
}

}  // namespace turboquant::cli
