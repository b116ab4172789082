// Packed rows in device memory, in pieces that a buffer may have.
#ifndef TURBOQUANT_SRC_WEBGPU_SEGMENTS_H_
#define TURBOQUANT_SRC_WEBGPU_SEGMENTS_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "src/webgpu/gpu.h"
#include "turboquant/error.h"

namespace turboquant::webgpu {

// What a row takes.
struct RowFormat {
  size_t block_bytes = 0;  // of 16 rows of codes
  size_t sign_words = 0;   // of one row's sketch; 0: there is none, and no residual norm
};

// Rows from lane 0 on; capacity is a multiple of 16.
struct Segment {
  size_t capacity = 0;
  size_t rows = 0;
  Buffer blocks;
  Buffer scales;  // f32; from `capacity` on the residual norms, where there is a sketch
  Buffer signs;   // word w of row r at (r / 16 · words + w) · 16 + r % 16
};

class Segments {
 public:
  explicit Segments(const RowFormat& format) : format_(format) {}

  size_t size() const { return size_; }
  size_t HeldBytes() const;
  const std::vector<Segment>& segments() const { return segments_; }

  // The segment that the next of `wanted` rows go to, which has room for one at least.
  [[nodiscard]] Result<Segment*> Room(Gpu& gpu, size_t wanted);
  // `count` rows were written to what Room gave.
  void Grow(Segment& segment, size_t count);
  void Truncate(size_t rows);

  // Rows of the largest segment: what blocks, signs and four scores a row need fits a buffer, and
  // one dispatch has a thread for every row.
  // Errors: kUnsupported where not even a block does.
  [[nodiscard]] static Result<size_t> LargestSegment(const Gpu& gpu, const RowFormat& format);

 private:
  RowFormat format_;
  size_t size_ = 0;
  std::vector<Segment> segments_;
};

// Prepared queries in pieces: digits or rotated directions, by four; and what a score is
// multiplied by.
struct QueryChunk {
  size_t queries = 0;
  int digits_each = 1;
  Buffer digits;
  Buffer factors;
  Buffer projections;  // Prod only
};

class QueryChunks {
 public:
  std::vector<QueryChunk> chunks;
  size_t queries = 0;
};

}  // namespace turboquant::webgpu

#endif  // TURBOQUANT_SRC_WEBGPU_SEGMENTS_H_
