// Lanes of a page as files have them: rows of codes as bit streams, and scales.
#ifndef TURBOQUANT_SRC_CACHE_CANONICAL_LANES_H_
#define TURBOQUANT_SRC_CACHE_CANONICAL_LANES_H_

#include <cstddef>
#include <span>

#include "src/cache/kv_parts.h"
#include "turboquant/error.h"

namespace turboquant {

// Bytes of a token's codes: code j of b bits in bits [j·b, (j+1)·b) of a little-endian stream.
size_t CanonicalRowBytes(const KvPart& part);

// Lanes [first_lane, first_lane + count) of one head's bytes in a page: `codes` are
// CanonicalRowBytes a token, `scales` binary16, 2 bytes a token at any address.
void ExportLanes(const KvPart& part, bool values, const std::byte* head_bytes, size_t first_lane,
                 size_t count, std::span<std::byte> codes, std::span<std::byte> scales);

// The reverse, into zero lanes. Errors: kCorruptData saying what is wrong with which of the rows:
// padding bits that are not zero, a code without centroid, a scale that is negative (-0 is) or not
// finite; nothing is written then.
[[nodiscard]] Result<void> ImportLanes(const KvPart& part, bool values,
                                       std::span<const std::byte> codes,
                                       std::span<const std::byte> scales, size_t first_lane,
                                       size_t count, std::byte* head_bytes);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_CANONICAL_LANES_H_
