// CRC-32 as zip, png and zlib define it (polynomial 0xEDB88320, reflected): finds damaged files,
// not forged ones.
#ifndef TURBOQUANT_SRC_BASE_CHECKSUM_H_
#define TURBOQUANT_SRC_BASE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace turboquant {

// CRC-32 of `bytes`. Pass the result of an earlier call as `crc` to go on behind its bytes.
uint32_t Crc32(std::span<const std::byte> bytes, uint32_t crc = 0);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_CHECKSUM_H_
