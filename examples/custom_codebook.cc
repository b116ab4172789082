// A quantizer with centroids of your own, beside the optimal ones; and what happens to bad ones.
#include <cstdio>
#include <expected>
#include <vector>

#include "examples/example_rows.h"
#include "turboquant/codebook.h"
#include "turboquant/mse_quantizer.h"

using turboquant::Codebook;
using turboquant::CodebookKind;
using turboquant::MseOptions;
using turboquant::MseQuantizer;
using turboquant::Result;

namespace {

constexpr size_t kDim = 96;

Result<double> ErrorOf(const MseOptions& options, const ExampleRows& rows) {
  const auto quantizer = MseQuantizer::Create(options);
  if (!quantizer) return std::unexpected(quantizer.error());
  const auto encoded = quantizer->Encode(rows.view());
  if (!encoded) return std::unexpected(encoded.error());
  ExampleRows decoded(rows.rows, rows.dim);
  if (const auto done = quantizer->Decode(*encoded, decoded.view()); !done) {
    return std::unexpected(done.error());
  }
  return RelativeError(rows, decoded);
}

// Prints the errors of both codebooks; false if the optimal one is not the better.
Result<bool> Compare() {
  // 2^3 centroids in units of sigma, ascending. Equal steps: simple, and not optimal.
  std::vector<double> centroids;
  for (int i = 0; i < 8; ++i) centroids.push_back(0.5 * (i - 3.5));
  auto codebook = Codebook::FromCentroids(kDim, centroids);
  if (!codebook) return std::unexpected(codebook.error());

  const ExampleRows rows = NormalRows(2000, kDim, /*seed=*/1);
  const auto equal_steps = ErrorOf({.dim = kDim,
                                    .bits = 3,
                                    .codebook = CodebookKind::kCustom,
                                    .custom_codebook = std::move(*codebook)},
                                   rows);
  if (!equal_steps) return std::unexpected(equal_steps.error());
  const auto optimal = ErrorOf({.dim = kDim, .bits = 3}, rows);
  if (!optimal) return std::unexpected(optimal.error());
  std::printf("equal steps %.5f, Lloyd-Max %.5f\n", *equal_steps, *optimal);
  return *optimal < *equal_steps;
}

}  // namespace

int main() {
  const auto as_expected = Compare();
  if (!as_expected) {
    std::fprintf(stderr, "%s\n", as_expected.error().message.c_str());
    return 1;
  }
  const auto refused = Codebook::FromCentroids(kDim, std::vector<double>{-1.0, 0.5, 0.25, 1.0});
  if (refused) return 1;
  std::printf("refused: %s\n", refused.error().message.c_str());
  return *as_expected ? 0 : 1;
}
