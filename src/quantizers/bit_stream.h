// Codes of changing width in one little-endian bit stream: bit k of a code comes before bit k + 1.
#ifndef TURBOQUANT_SRC_QUANTIZERS_BIT_STREAM_H_
#define TURBOQUANT_SRC_QUANTIZERS_BIT_STREAM_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace turboquant {

// Writes into zeroed bytes.
class BitWriter {
 public:
  explicit BitWriter(std::span<uint8_t> bytes) : bytes_(bytes) {}

  // The low `bits` (1 to 8) of `code`; the others must be zero.
  void Write(unsigned code, int bits) {
    assert(code >> bits == 0);
    const unsigned shifted = code << (at_ % 8);
    bytes_[at_ / 8] = static_cast<uint8_t>(bytes_[at_ / 8] | shifted);
    if (shifted > 0xFF) bytes_[at_ / 8 + 1] = static_cast<uint8_t>(shifted >> 8);
    at_ += static_cast<size_t>(bits);
  }

 private:
  std::span<uint8_t> bytes_;
  size_t at_ = 0;
};

class BitReader {
 public:
  explicit BitReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  unsigned Read(int bits) {
    const size_t byte = at_ / 8;
    unsigned word = bytes_[byte];
    if (at_ % 8 + static_cast<size_t>(bits) > 8) word |= unsigned{bytes_[byte + 1]} << 8;
    const unsigned code = word >> (at_ % 8) & ((1u << bits) - 1);
    at_ += static_cast<size_t>(bits);
    return code;
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_QUANTIZERS_BIT_STREAM_H_
