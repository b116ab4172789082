// Counter-based random numbers: the value at a position depends on (seed, stream, position) alone,
// and is the same on every platform (no libm in the way). Part of the file format.
#ifndef TURBOQUANT_SRC_BASE_RANDOM_H_
#define TURBOQUANT_SRC_BASE_RANDOM_H_

#include <array>
#include <cstdint>
#include <span>

namespace turboquant {

// Philox4x32-10 (Salmon et al., SC 2011): four words for a 128-bit counter under a 64-bit key.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Which stream of a seed: packed into the upper half of the counter. The fields are frozen.
struct StreamId {
  uint32_t layer = 0;  // < 2^20
  uint32_t head = 0;   // < 2^20
  uint32_t side = 0;   // < 2^8: 0 keys, 1 values
  uint32_t stage = 0;  // < 2^8: 0 rotation, 1 residual sketch, 2 polar, 3 outlier part, 15 tests
  uint32_t round = 0;  // < 2^8
};

// Sequential reader of one stream. Words come in counter order, four to a block.
class RandomBits {
 public:
  RandomBits(uint64_t seed, const StreamId& stream);

  uint32_t NextWord();

  // Bit j of the stream is bit j % 32 of word j / 32; true means a negative sign.
  bool NextBit();

  // In (0, 1): the middle of one of 2^52 cells, from two words (low word first).
  double NextUniform();

  // N(0, 1): the inverse normal distribution at NextUniform(), by arithmetic that is the same
  // everywhere; error below 1e-15 relative to the quantile.
  double NextNormal();

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int next_word_ = 4;
  uint32_t bits_ = 0;
  int bits_left_ = 0;
};

// Quantile of N(0, 1) at p in (0, 1); Wichura's AS 241 with a logarithm of our own, so that no
// platform's libm enters the format.
double InverseNormal(double p);

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_BASE_RANDOM_H_
