// The one switch from a run-time width to a template constant.
#ifndef TURBOQUANT_SRC_KERNELS_WITH_BITS_H_
#define TURBOQUANT_SRC_KERNELS_WITH_BITS_H_

#include <utility>

namespace turboquant::kernels {

// Calls function.template operator()<bits>() for bits 1 to 8.
template <class Function>
decltype(auto) WithBits(int bits, Function&& function) {
  switch (bits) {
    case 1:
      return function.template operator()<1>();
    case 2:
      return function.template operator()<2>();
    case 3:
      return function.template operator()<3>();
    case 4:
      return function.template operator()<4>();
    case 5:
      return function.template operator()<5>();
    case 6:
      return function.template operator()<6>();
    case 7:
      return function.template operator()<7>();
    case 8:
      return function.template operator()<8>();
    default:
      std::unreachable();
  }
}

// As WithBits for the widths whose levels may be int8, 1 to 4 and 8; false for the others.
template <class Function>
bool WithByteLevels(int bits, const Function& function) {
  return WithBits(bits, [&]<int kBits>() {
    constexpr bool kFits = kBits <= 4 || kBits == 8;
    if constexpr (kFits) function.template operator()<kBits>();
    return kFits;
  });
}

}  // namespace turboquant::kernels

#endif  // TURBOQUANT_SRC_KERNELS_WITH_BITS_H_
