// Identity of a quantizer: FNV-1a over the fields that decide what its bytes mean.
#ifndef TURBOQUANT_SRC_QUANTIZERS_FINGERPRINT_H_
#define TURBOQUANT_SRC_QUANTIZERS_FINGERPRINT_H_

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace turboquant {

class Fingerprint {
 public:
  template <class T>
    requires std::integral<T> || std::is_enum_v<T>
  Fingerprint& Add(T field) {
    uint64_t word = static_cast<uint64_t>(field);
    for (int byte = 0; byte < 8; ++byte, word >>= 8) {
      hash_ = (hash_ ^ (word & 0xFFu)) * 0x100000001B3u;
    }
    return *this;
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xCBF29CE484222325u;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_FINGERPRINT_H_
