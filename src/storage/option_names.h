// How files spell the enumerators of options.
#ifndef TURBOQUANT_SRC_STORAGE_OPTION_NAMES_H_
#define TURBOQUANT_SRC_STORAGE_OPTION_NAMES_H_

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <string_view>

#include "turboquant/codebook.h"
#include "turboquant/key_map.h"
#include "turboquant/matrix_view.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/polar_quantizer.h"
#include "turboquant/qjl.h"
#include "turboquant/rotation.h"

namespace turboquant {

template <class Enum>
struct OptionName {
  Enum option;
  std::string_view name;
};

inline constexpr OptionName<Scale> kScaleNames[] = {{Scale::kNorm, "norm"},
                                                    {Scale::kMatched, "matched"},
                                                    {Scale::kLeastSquares, "least-squares"},
                                                    {Scale::kUnbiased, "unbiased"}};
inline constexpr OptionName<ScaleType> kScaleTypeNames[] = {{ScaleType::kF16, "f16"},
                                                            {ScaleType::kF32, "f32"}};
inline constexpr OptionName<RotationKind> kRotationNames[] = {{RotationKind::kHadamard, "hadamard"},
                                                              {RotationKind::kDense, "dense"}};
inline constexpr OptionName<CodebookKind> kCodebookNames[] = {
    {CodebookKind::kLloydMax, "lloyd-max"},
    {CodebookKind::kUniform, "uniform"},
    {CodebookKind::kCustom, "custom"}};
inline constexpr OptionName<CodebookDensity> kDensityNames[] = {
    {CodebookDensity::kAuto, "auto"},
    {CodebookDensity::kSphere, "sphere"},
    {CodebookDensity::kGaussian, "gaussian"}};
inline constexpr OptionName<SketchKind> kSketchNames[] = {{SketchKind::kGaussian, "gaussian"},
                                                          {SketchKind::kOrthogonal, "orthogonal"}};
inline constexpr OptionName<PolarForm> kPolarFormNames[] = {{PolarForm::kBlocks, "blocks"},
                                                            {PolarForm::kFull, "full"}};

inline constexpr OptionName<KeyMapKind> kKeyMapNames[] = {{KeyMapKind::kNone, "none"},
                                                          {KeyMapKind::kCenter, "center"},
                                                          {KeyMapKind::kDiagonal, "diagonal"},
                                                          {KeyMapKind::kFull, "full"}};
inline constexpr OptionName<RopePairing> kPairingNames[] = {
    {RopePairing::kHalf, "half"}, {RopePairing::kInterleaved, "interleaved"}};
inline constexpr OptionName<RowType> kExactTypeNames[] = {{RowType::kF16, "f16"},
                                                          {RowType::kF32, "f32"}};

template <class Enum, size_t kCount>
std::string_view NameOf(const OptionName<Enum> (&names)[kCount], Enum option) {
  const auto found = std::ranges::find(names, option, &OptionName<Enum>::option);
  assert(found != std::end(names));
  return found->name;
}

// `name` is one of the names: the rules of the file's options have seen it.
template <class Enum, size_t kCount>
Enum OptionOf(const OptionName<Enum> (&names)[kCount], std::string_view name) {
  const auto found = std::ranges::find(names, name, &OptionName<Enum>::name);
  assert(found != std::end(names));
  return found->option;
}

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_STORAGE_OPTION_NAMES_H_
