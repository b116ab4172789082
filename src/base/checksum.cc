#include "src/base/checksum.h"

#include <zlib.h>

namespace turboquant {

uint32_t Crc32(std::span<const std::byte> bytes, uint32_t crc) {
  if (bytes.empty()) return crc;  // zlib answers 0 for a null pointer, whatever came before
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

}  // namespace turboquant
