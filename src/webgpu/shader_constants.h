// What a quantizer's shaders have as constants, written as WGSL.
#ifndef TURBOQUANT_SRC_WEBGPU_SHADER_CONSTANTS_H_
#define TURBOQUANT_SRC_WEBGPU_SHADER_CONSTANTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/quantizers/mse_core.h"

namespace turboquant::webgpu {

// Invocations of a workgroup, of every kernel.
inline constexpr uint32_t kThreads = 64;

// Collects "const kName = ...;" lines.
class Constants {
 public:
  Constants& Word(std::string_view name, uint64_t value);
  Constants& Flag(std::string_view name, bool value);
  Constants& Float(std::string_view name, double value);  // rounded once
  Constants& Real(std::string_view name, double value);   // as real.wgsl has it; >= 0

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// What a workgroup of the kernels that take whole rows holds in its memory.
struct GroupShape {
  size_t rows = 1;        // a power of two
  bool codebook = false;  // its levels and thresholds too
};

// Bytes of the kernel that needs most.
size_t WorkgroupBytes(const MseCore& core, size_t sign_words, const GroupShape& shape);

// As many rows as keep all threads busy, and no more than leave room for several workgroups; one,
// where not even that fits into `limit` bytes.
GroupShape ChooseGroupShape(const MseCore& core, size_t sign_words, size_t limit);

// Of every kernel of an MSE quantizer: its rotation, codebook, packing and scales.
Constants MseConstants(const MseCore& core, const GroupShape& shape);

// Lines of 64 bytes of a block of 16 rows.
size_t BlockLines(const MseCore& core);

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_SHADER_CONSTANTS_H_
