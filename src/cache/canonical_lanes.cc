#include "src/cache/canonical_lanes.h"

#include <cassert>
#include <cstdint>
#include <cstring>
#include <vector>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/half.h"

namespace turboquant {
namespace {

constexpr uint16_t kF16Infinity = 0x7C00u;

kernels::PackedBlocks Blocks(const KvPart& part, bool values, const std::byte* head_bytes) {
  // ExportLanes only reads through it.
  auto* bytes = const_cast<std::byte*>(head_bytes) + part.blocks_offset;
  return {reinterpret_cast<uint8_t*>(bytes), part.dim, part.bits, values};
}

const kernels::KernelTable& Kernels(const KvPart& part) { return part.cores[0].kernels(); }

// Codes of the part's width that mean something: the uniform codebook has one less than fit.
size_t CodeCount(const KvPart& part) { return part.signs ? 2 : part.cores[0].codebook().size(); }

}  // namespace

size_t CanonicalRowBytes(const KvPart& part) {
  return CeilDivide(part.dim * static_cast<size_t>(part.bits), 8);
}

void ExportLanes(const KvPart& part, bool values, const std::byte* head_bytes, size_t first_lane,
                 size_t count, std::span<std::byte> codes, std::span<std::byte> scales) {
  assert(codes.size() == count * CanonicalRowBytes(part));
  assert(scales.size() == count * sizeof(uint16_t));
  std::vector<uint8_t> unpacked(count * part.dim);
  Kernels(part).unpack_codes(Blocks(part, values, head_bytes), first_lane, count, unpacked.data());
  Kernels(part).pack_stream(unpacked.data(), part.bits, count, part.dim,
                            reinterpret_cast<uint8_t*>(codes.data()));
  const std::byte* from = head_bytes + part.scales_offset + first_lane * sizeof(uint16_t);
  std::memcpy(scales.data(), from, scales.size());
}

Result<void> ImportLanes(const KvPart& part, bool values, std::span<const std::byte> codes,
                         std::span<const std::byte> scales, size_t first_lane, size_t count,
                         std::byte* head_bytes) {
  const size_t row_bytes = CanonicalRowBytes(part);
  assert(codes.size() == count * row_bytes && scales.size() == count * sizeof(uint16_t));
  const size_t bits_in_last = part.dim * static_cast<size_t>(part.bits) % 8;
  const size_t code_count = CodeCount(part);
  const auto* stream = reinterpret_cast<const uint8_t*>(codes.data());
  std::vector<uint8_t> unpacked(count * part.dim);
  Kernels(part).unpack_stream(stream, part.bits, count, part.dim, unpacked.data());
  for (size_t r = 0; r < count; ++r) {
    const uint8_t* row_codes = unpacked.data() + r * part.dim;
    if (bits_in_last != 0 && stream[(r + 1) * row_bytes - 1] >> bits_in_last != 0) {
      return Fail(ErrorCode::kCorruptData, "row ", r, " has padding bits that are not zero");
    }
    for (size_t j = 0; j < part.dim && code_count < size_t{1} << part.bits; ++j) {
      if (row_codes[j] < code_count) continue;
      return Fail(ErrorCode::kCorruptData, "row ", r, " has code ", int{row_codes[j]},
                  " at column ", j, ", the codebook has ", code_count);
    }
    uint16_t scale;
    std::memcpy(&scale, scales.data() + r * sizeof(scale), sizeof(scale));
    if (scale >= kF16Infinity) {  // or with a sign
      return Fail(ErrorCode::kCorruptData, "row ", r, " has scale ",
                  static_cast<double>(F16ToF32({scale})), ", not a finite number >= 0");
    }
  }
  // All rows together: whole units of lines are moved at once.
  Kernels(part).pack_codes(Blocks(part, values, head_bytes), first_lane, count, unpacked.data());
  std::byte* into = head_bytes + part.scales_offset + first_lane * sizeof(uint16_t);
  std::memcpy(into, scales.data(), scales.size());
  return {};
}

}  // namespace turboquant
