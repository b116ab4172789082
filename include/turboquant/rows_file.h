// Encoded rows in files: safetensors with metadata "format": "turboquant.rows". docs/format.md
// describes the bytes.
#ifndef TURBOQUANT_ROWS_FILE_H_
#define TURBOQUANT_ROWS_FILE_H_

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/backend.h"
#include "turboquant/error.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/outlier_quantizer.h"
#include "turboquant/polar_quantizer.h"
#include "turboquant/prod_quantizer.h"
#include "turboquant/qjl.h"
#include "turboquant/safetensors.h"

namespace turboquant {

// The contents of an encoded-row file, whichever method wrote it: what the quantizers export and
// import, in canonical layout.
struct EncodedRowsFile {
  std::string method;  // "mse", "prod", "qjl", "polar" or "outlier"
  StringMap options;   // everything needed to decode, as docs/format.md lists it for the method
  size_t rows = 0;
  std::vector<TensorView> tensors;
  std::shared_ptr<const void> owner;  // keeps the tensors' bytes alive; null: someone else does

  // nullptr if there is no such tensor.
  const TensorView* Find(std::string_view name) const;
};

// Reads and checks everything: the container (as SafetensorsFile), format, version, checksums,
// every option the method needs and no other, types, shapes, padding bits, scales. The tensors
// point into the mapping. Errors: kIo; kCorruptData naming the culprit; kUnsupported for a newer
// version or an unknown method or dtype; kInvalidArgument for a file of another format.
[[nodiscard]] Result<EncodedRowsFile> ReadEncodedRows(const std::filesystem::path& path);

// The same over bytes that outlive the result.
[[nodiscard]] Result<EncodedRowsFile> ReadEncodedRows(std::span<const std::byte> bytes);

// The bytes of the file: equal contents, equal bytes. Errors: kInvalidArgument naming what does not
// fit the method.
[[nodiscard]] Result<std::vector<std::byte>> SerializeEncodedRows(const EncodedRowsFile& file);

// Writes the file through a temporary one; a failed call leaves `path` as it was. Errors: also kIo.
[[nodiscard]] Result<void> WriteEncodedRows(const std::filesystem::path& path,
                                            const EncodedRowsFile& file);

// Rows as a file holds them, with the options of the quantizer that wrote them. Errors:
// kInvalidArgument if another quantizer wrote the rows.
[[nodiscard]] Result<EncodedRowsFile> ExportRows(const MseQuantizer& quantizer,
                                                 const MseRows& rows);
[[nodiscard]] Result<EncodedRowsFile> ExportRows(const ProdQuantizer& quantizer,
                                                 const ProdRows& rows);
[[nodiscard]] Result<EncodedRowsFile> ExportRows(const QjlSketch& sketch, const SignRows& rows);
[[nodiscard]] Result<EncodedRowsFile> ExportRows(const PolarQuantizer& quantizer,
                                                 const PolarRows& rows);
[[nodiscard]] Result<EncodedRowsFile> ExportRows(const OutlierQuantizer& quantizer,
                                                 const OutlierRows& rows);

// Rows with the quantizer that decodes and scores them.
template <class Quantizer, class Rows>
struct Loaded {
  Quantizer quantizer;
  Rows rows;
};
using LoadedMseRows = Loaded<MseQuantizer, MseRows>;
using LoadedProdRows = Loaded<ProdQuantizer, ProdRows>;
using LoadedSignRows = Loaded<QjlSketch, SignRows>;
using LoadedPolarRows = Loaded<PolarQuantizer, PolarRows>;
using LoadedOutlierRows = Loaded<OutlierQuantizer, OutlierRows>;

struct ImportOptions {
  Backend backend = Backend::kAuto;
  Tiling tiling = Tiling::kKeys;
};

// The reverse of ExportRows: rebuilds the quantizer from the options and compares its codebook with
// the file's fingerprint. Errors: kInvalidArgument for a file of another method; kCorruptData for
// options that make no quantizer, a fingerprint that differs, or rows the quantizer refuses;
// kUnavailable for the backend.
[[nodiscard]] Result<LoadedMseRows> ImportMseRows(const EncodedRowsFile& file,
                                                  const ImportOptions& import_options = {});
[[nodiscard]] Result<LoadedProdRows> ImportProdRows(const EncodedRowsFile& file,
                                                    const ImportOptions& import_options = {});
[[nodiscard]] Result<LoadedSignRows> ImportSignRows(const EncodedRowsFile& file);
[[nodiscard]] Result<LoadedPolarRows> ImportPolarRows(const EncodedRowsFile& file);
[[nodiscard]] Result<LoadedOutlierRows> ImportOutlierRows(const EncodedRowsFile& file,
                                                          const ImportOptions& import_options = {});

// Both steps for the commonest method.
[[nodiscard]] Result<void> WriteMseRows(const std::filesystem::path& path,
                                        const MseQuantizer& quantizer, const MseRows& rows);
[[nodiscard]] Result<LoadedMseRows> ReadMseRows(const std::filesystem::path& path,
                                                const ImportOptions& import_options = {});

}  // namespace turboquant

#endif  // TURBOQUANT_ROWS_FILE_H_
