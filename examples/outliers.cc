// The paper's "2.5-bit" mode: the channels with the most energy take one bit more, in a part of
// their own, so that they don't drown the others.
#include <cstdio>
#include <expected>

#include "examples/example_rows.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/outlier_quantizer.h"

using turboquant::MseQuantizer;
using turboquant::OutlierQuantizer;
using turboquant::Result;

namespace {

constexpr size_t kDim = 128;

// Every fourth channel is six times as large as the others, as in some models' keys.
ExampleRows RowsWithOutliers() {
  ExampleRows rows = NormalRows(1000, kDim, /*seed=*/1);
  for (size_t i = 0; i < rows.values.size(); i += 4) rows.values[i] *= 6.0f;
  return rows;
}

template <class Quantizer>
Result<double> ErrorOf(const Result<Quantizer>& quantizer, const ExampleRows& rows) {
  if (!quantizer) return std::unexpected(quantizer.error());
  const auto encoded = quantizer->Encode(rows.view());
  if (!encoded) return std::unexpected(encoded.error());
  ExampleRows decoded(rows.rows, rows.dim);
  if (const auto done = quantizer->Decode(*encoded, decoded.view()); !done) {
    return std::unexpected(done.error());
  }
  return RelativeError(rows, decoded);
}

// Prints the errors; false if the split does not help.
Result<bool> Compare() {
  const ExampleRows rows = RowsWithOutliers();
  auto channels = turboquant::ChooseOutlierChannels(rows.view(), 32);
  if (!channels) return std::unexpected(channels.error());
  const bool right_channels = channels->front() == 0 && channels->back() == kDim - 4;

  const auto plain = ErrorOf(MseQuantizer::Create({.dim = kDim, .bits = 2}), rows);
  if (!plain) return std::unexpected(plain.error());
  const auto split = ErrorOf(
      OutlierQuantizer::Create({.dim = kDim, .bits = 2, .outlier_channels = std::move(*channels)}),
      rows);
  if (!split) return std::unexpected(split.error());
  std::printf("2 bits %.4f, 2 bits with 32 channels of 3 bits %.4f\n", *plain, *split);
  return right_channels && *split < 0.5 * *plain;
}

}  // namespace

int main() {
  const auto as_expected = Compare();
  if (!as_expected) {
    std::fprintf(stderr, "%s\n", as_expected.error().message.c_str());
    return 1;
  }
  return *as_expected ? 0 : 1;
}
