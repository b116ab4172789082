#include "src/cache/page_frame.h"

#include <cassert>
#include <cmath>

namespace turboquant {
namespace {

// Every pair turns by its angle, the sines multiplied by `direction`, 1 or -1.
void Turn(std::span<const float> turns, RopePairing pairing, float direction, float* row) {
  const size_t pairs = turns.size() / 2;
  const float* cosines = turns.data();
  const float* sines = cosines + pairs;
  const size_t step = pairing == RopePairing::kHalf ? 1 : 2;
  float* second = row + (pairing == RopePairing::kHalf ? pairs : 1);
  for (size_t i = 0; i < pairs; ++i) {
    const float x = row[i * step];
    const float y = second[i * step];
    const float sine = direction * sines[i];
    row[i * step] = x * cosines[i] - y * sine;
    second[i * step] = y * cosines[i] + x * sine;
  }
}

}  // namespace

void MakeTurns(const RopeParameters& rope, uint64_t position, std::span<float> turns) {
  const size_t pairs = rope.inverse_frequencies.size();
  assert(turns.size() == 2 * pairs);
  for (size_t i = 0; i < pairs; ++i) {
    const double angle = static_cast<double>(position) * rope.inverse_frequencies[i];
    turns[i] = static_cast<float>(std::cos(angle));
    turns[pairs + i] = static_cast<float>(std::sin(angle));
  }
}

void TurnBack(std::span<const float> turns, RopePairing pairing, float* row) {
  Turn(turns, pairing, -1.0f, row);
}

void TurnForward(std::span<const float> turns, RopePairing pairing, float* row) {
  Turn(turns, pairing, 1.0f, row);
}

}  // namespace turboquant
