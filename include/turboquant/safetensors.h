// The safetensors container: named tensors and a string map in one file that any Hugging Face tool
// opens. A reader that believes nothing, and a writer whose bytes depend on the contents alone.
#ifndef TURBOQUANT_SAFETENSORS_H_
#define TURBOQUANT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/error.h"

namespace turboquant {

enum class TensorType {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
  kUnknown,  // a dtype this build does not know; see UnknownTensors
};

// As files spell it ("F16"); "unknown" for kUnknown.
std::string_view TensorTypeName(TensorType type);

// Bytes of one element; 0 for kUnknown.
size_t TensorTypeBytes(TensorType type);

// A tensor whose bytes someone else holds.
struct TensorView {
  std::string name;
  TensorType type = TensorType::kU8;
  std::vector<size_t> shape;         // empty: a scalar
  std::span<const std::byte> bytes;  // row-major, little-endian, at any address
};

using StringMap = std::map<std::string, std::string>;

enum class UnknownTensors {
  kRefuse,  // kUnsupported
  kKeep,    // listed as TensorType::kUnknown, their shape not compared with their bytes
};

// Immutable; copies share the mapping; safe to share between threads.
class SafetensorsFile {
 public:
  // Maps the file. Errors: kIo; kCorruptData naming what is wrong: a header above 100 MB or beyond
  // the file, no strict JSON or a name given twice, fields missing, unknown or of the wrong kind, a
  // shape whose size overflows or is not that of its bytes, holes or overlaps between tensors,
  // bytes left over; kUnsupported for a dtype this build does not know.
  [[nodiscard]] static Result<SafetensorsFile> Open(
      const std::filesystem::path& path, UnknownTensors unknown = UnknownTensors::kRefuse);

  // The same over bytes that outlive the object and all its copies.
  [[nodiscard]] static Result<SafetensorsFile> FromBytes(
      std::span<const std::byte> bytes, UnknownTensors unknown = UnknownTensors::kRefuse);

  // Ascending by name (as bytes). Their bytes live as long as this object or a copy of it.
  std::span<const TensorView> tensors() const { return contents_->tensors; }

  // nullptr if there is no such tensor.
  const TensorView* Find(std::string_view name) const;

  const StringMap& metadata() const { return contents_->metadata; }

 private:
  struct Contents {
    std::shared_ptr<const void> mapping;  // null for FromBytes
    std::vector<TensorView> tensors;
    StringMap metadata;
  };

  explicit SafetensorsFile(std::shared_ptr<const Contents> contents)
      : contents_(std::move(contents)) {}
  [[nodiscard]] static Result<SafetensorsFile> Parse(std::span<const std::byte> bytes,
                                                     UnknownTensors unknown,
                                                     std::shared_ptr<const void> mapping);

  std::shared_ptr<const Contents> contents_;
};

// The bytes of a file with these tensors and metadata: the same for the same contents in any order.
// Tensors stand by falling element size, then by name, from an offset that 8 divides, so that each
// is aligned. Errors: kInvalidArgument naming the tensor or key: given twice, named "__metadata__",
// not UTF-8, of type kUnknown, or with a shape that is not its bytes'.
[[nodiscard]] Result<std::vector<std::byte>> SerializeSafetensors(
    std::span<const TensorView> tensors, const StringMap& metadata);

// The same into a file: a temporary file in the same folder, flushed and renamed, so that `path` is
// either as it was or complete. Errors: also kIo.
[[nodiscard]] Result<void> WriteSafetensors(const std::filesystem::path& path,
                                            std::span<const TensorView> tensors,
                                            const StringMap& metadata);

// All elements of an F64, F32, F16 or BF16 tensor as f32: exact but for F64, which is rounded to
// nearest even. Infinities and NaN pass. Errors: kUnsupported for another type; kInvalidArgument
// naming a finite F64 element beyond f32's range.
[[nodiscard]] Result<std::vector<float>> ReadFloats(const TensorView& tensor);

}  // namespace turboquant

#endif  // TURBOQUANT_SAFETENSORS_H_
