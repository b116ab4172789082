// The frames of pages: RoPE's rotation by the position of a page's first token.
#ifndef TURBOQUANT_SRC_CACHE_PAGE_FRAME_H_
#define TURBOQUANT_SRC_CACHE_PAGE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "turboquant/key_map.h"

namespace turboquant {

// Cosines, then sines, of R_position's angles: turns[rotary_dim], rounded once from double.
void MakeTurns(const RopeParameters& rope, uint64_t position, std::span<float> turns);

// row = R_-position row: the leading turns.size() coordinates turn back. Nothing for empty turns.
void TurnBack(std::span<const float> turns, RopePairing pairing, float* row);

// row = R_position row.
void TurnForward(std::span<const float> turns, RopePairing pairing, float* row);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_PAGE_FRAME_H_
