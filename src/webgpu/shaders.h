// The shaders' text, embedded from shaders/*.wgsl when the library is built.
#ifndef TURBOQUANT_SRC_WEBGPU_SHADERS_H_
#define TURBOQUANT_SRC_WEBGPU_SHADERS_H_

#include <string_view>

namespace turboquant::webgpu {

// Parts that kernels share.
extern const std::string_view kReal;   // numbers of 32-bit mantissa in integers
extern const std::string_view kCodes;  // where codes lie in packed lines
extern const std::string_view kPackCodes;
extern const std::string_view kNormSquared;
extern const std::string_view kRotate;
extern const std::string_view kDirection;  // of rows and queries
// The sketch that a quantizer has, and its transpose.
extern const std::string_view kProjectHadamard;
extern const std::string_view kProjectDense;
extern const std::string_view kUnprojectHadamard;
extern const std::string_view kUnprojectDense;

// Kernels.
extern const std::string_view kEncodeRows;
extern const std::string_view kDecodeRows;
extern const std::string_view kQueryDigits;
extern const std::string_view kScoreKeys;
extern const std::string_view kWeightedSum;
extern const std::string_view kAttentionOutput;
extern const std::string_view kEncodeSigns;
extern const std::string_view kProjectQueries;
extern const std::string_view kScoreProd;
extern const std::string_view kDecodeProd;

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_SHADERS_H_
