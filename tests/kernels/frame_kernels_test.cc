// Frames of pages on every backend of this CPU against their definitions: bit for bit.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/kernels/attention.h"
#include "src/kernels/kernels.h"
#include "src/kernels/line_layout.h"
#include "tests/kernels/kernel_rows.h"
#include "tests/kernels/kernel_tables.h"

namespace turboquant::kernels {
namespace {

class FrameKernelsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  const AttentionKernels& kernels() const { return *GetParam()->attention; }
  const AttentionKernels& reference() const { return reference::kAttention; }
};

TEST_P(FrameKernelsTest, FramesEqualReference) {
  for (const size_t dim : kDims) {
    for (const size_t rotary_dim : {size_t{0}, dim / 4 * 2, dim / 2 * 2}) {
      for (int parts = 0; parts < 8; ++parts) {
        const std::vector<float> cosines = Normal(dim, 1), sines = Normal(dim, 2);
        const std::vector<float> center = Normal(dim, 3), scale = Normal(dim, 4);
        const FramePlan plan = {dim,
                                rotary_dim,
                                (parts & 1) != 0,
                                cosines.data(),
                                sines.data(),
                                parts & 2 ? center.data() : nullptr,
                                parts & 4 ? scale.data() : nullptr};
        const std::vector<float> row = Normal(dim, 5);
        std::vector<float> out(dim), expected(dim), in_place = row;
        kernels().frame_key(plan, row.data(), out.data());
        reference().frame_key(plan, row.data(), expected.data());
        ExpectSameBits(out, expected, "key");
        kernels().frame_key(plan, in_place.data(), in_place.data());
        ExpectSameBits(in_place, expected, "key in place");
        const float offset = kernels().frame_query(plan, row.data(), out.data());
        EXPECT_EQ(offset, reference().frame_query(plan, row.data(), expected.data()));
        ExpectSameBits(out, expected, "query");
      }
    }
  }
}

// What framed_digits makes of queries.
struct Framed {
  size_t count;
  size_t stride;
  std::vector<int8_t> high;
  std::vector<int8_t> low;  // empty for one digit
  std::vector<float> offsets;
  std::vector<float> largest;

  Framed(size_t dim, size_t count_in, bool two)
      : count(count_in),
        stride(PaddedDim(dim) + 32),
        high(count * stride, 99),
        low(two ? count * stride : 0, 99),
        offsets(count + 1, -1.0f),
        largest(count + 1, -1.0f) {}
  void Run(const AttentionKernels& kernels, const FramePlan& frame, const RotationPlan& rotation,
           const std::vector<float>& rows) {
    std::vector<float> scratch(frame.dim);
    kernels.framed_digits(frame, rotation,
                          {{rows.data(), frame.dim + 1},
                           count,
                           high.data(),
                           low.empty() ? nullptr : low.data(),
                           stride,
                           offsets.data(),
                           largest.data()},
                          scratch.data());
  }
};

// Frames of one dim: turned or not, by halves or interleaved, with and without centre and diagonal.
std::vector<FramePlan> FramesOf(size_t dim, const std::vector<float>& numbers) {
  std::vector<FramePlan> frames;
  for (const size_t rotary_dim : {size_t{0}, dim / 4 * 2, dim / 2 * 2}) {
    for (int parts = 0; parts < 8; ++parts) {
      const float* all = numbers.data();
      frames.push_back({dim, rotary_dim, (parts & 1) != 0, all, all + dim,
                        parts & 2 ? all + 2 * dim : nullptr, parts & 4 ? all + 3 * dim : nullptr});
    }
  }
  return frames;
}

// Queries in one go are those of three steps, however many there are.
TEST_P(FrameKernelsTest, FramedDigitsEqualReference) {
  for (const size_t dim : {2, 20, 48, 64, 80, 96, 128, 256}) {
    const std::vector<uint32_t> masks = RandomMasks(2 * MasksPerRound(dim), 9);
    const std::vector<float> numbers = Normal(4 * dim, 1);
    int kind = 0;
    for (const FramePlan& frame : FramesOf(dim, numbers)) {
      const RotationPlan rotation = {dim, 1 + kind % 2, masks.data()};
      const size_t count = static_cast<size_t>(kind % 5);
      std::vector<float> rows = Normal(count * (dim + 1), 5);
      if (count > 0 && kind >= 4) {  // a query of zeros
        const size_t zero = static_cast<size_t>(kind) % count;
        std::fill_n(rows.begin() + static_cast<ptrdiff_t>(zero * (dim + 1)), dim, 0.0f);
      }
      Framed actual(dim, count, /*two=*/kind % 3 != 0);
      Framed expected = actual;
      actual.Run(kernels(), frame, rotation, rows);
      expected.Run(reference(), frame, rotation, rows);
      EXPECT_EQ(actual.largest, expected.largest) << dim << ", kind " << kind;
      EXPECT_EQ(actual.offsets, expected.offsets) << dim << ", kind " << kind;
      EXPECT_EQ(actual.high, expected.high) << dim << ", kind " << kind;
      EXPECT_EQ(actual.low, expected.low) << dim << ", kind " << kind;
      ++kind;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, FrameKernelsTest, testing::ValuesIn(TestedTables()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace turboquant::kernels
