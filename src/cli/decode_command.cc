#include "src/cli/decode_command.h"

#include <fmt/format.h>

#include <span>
#include <utility>
#include <vector>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/cli/backend_flag.h"
#include "src/cli/tbb_parallel_for.h"
#include "src/cli/tensor_rows.h"
#include "turboquant/rows_file.h"

namespace turboquant::cli {
namespace {

template <class Loaded>
Result<TensorRows> DecodeLoaded(Result<Loaded> loaded, const ParallelFor& parallel_for) {
  TQ_TRY(const Loaded ready, std::move(loaded));
  TensorRows rows;
  rows.rows = ready.rows.size();
  rows.dim = ready.rows.dim();
  const auto count = CheckedMultiply(rows.rows, rows.dim);
  if (!count || !CheckedMultiply(*count, sizeof(float))) {
    return Fail(ErrorCode::kCorruptData, rows.rows, " rows of dim ", rows.dim,
                " do not fit in memory");
  }
  rows.elements.resize(*count);
  TQ_CHECK(ready.quantizer.Decode(ready.rows, MatrixView(rows.elements.data(), rows.rows, rows.dim),
                                  parallel_for));
  return rows;
}

Result<TensorRows> DecodeFile(const EncodedRowsFile& file, const DecodeOptions& options,
                              const ParallelFor& parallel_for) {
  if (options.backend && (file.method == "qjl" || file.method == "polar")) {
    return Fail(ErrorCode::kInvalidArgument, "--backend has no use for method ", file.method);
  }
  ImportOptions import_options;
  TQ_TRY(import_options.backend, ParseBackendFlag(options.backend.value_or("auto")));
  if (file.method == "mse") return DecodeLoaded(ImportMseRows(file, import_options), parallel_for);
  if (file.method == "outlier") {
    return DecodeLoaded(ImportOutlierRows(file, import_options), parallel_for);
  }
  if (file.method == "prod") {
    return DecodeLoaded(ImportProdRows(file, import_options), parallel_for);
  }
  if (file.method == "qjl") return DecodeLoaded(ImportSignRows(file), parallel_for);
  if (file.method == "polar") return DecodeLoaded(ImportPolarRows(file), parallel_for);
  return Fail(ErrorCode::kUnsupported, "method \"", file.method, "\" cannot be decoded");
}

}  // namespace

Result<void> RunDecode(const DecodeOptions& options, std::ostream& out) {
  TQ_TRY(const ParallelFor parallel_for, MakeParallelFor(options.threads));
  TQ_TRY(const EncodedRowsFile file, ReadEncodedRows(options.input));
  TQ_TRY(const TensorRows rows, DecodeFile(file, options, parallel_for));
  TensorView tensor;
  tensor.name = options.tensor;
  tensor.type = TensorType::kF32;
  tensor.shape = {rows.rows, rows.dim};
  tensor.bytes = std::as_bytes(std::span(rows.elements));
  TQ_CHECK(WriteSafetensors(options.output, std::span(&tensor, 1), {}));
  out << fmt::format("{}: {} rows of dim {} in tensor \"{}\"\n", options.output, rows.rows,
                     rows.dim, options.tensor);
  return {};
}

}  // namespace turboquant::cli
