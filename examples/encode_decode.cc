// Encodes rows at every width and decodes them: the error is that of the codebook, whatever the
// rows are.
#include <cmath>
#include <cstdio>
#include <expected>

#include "examples/example_rows.h"
#include "turboquant/mse_quantizer.h"

using turboquant::MseQuantizer;
using turboquant::Result;
using turboquant::Scale;

namespace {

// Prints one line; false when the error is not what theory says.
Result<bool> EncodeAndDecode(const ExampleRows& rows, int bits) {
  // The least-squares scale reconstructs best; the default, kUnbiased, is for inner products.
  const auto quantizer = MseQuantizer::Create(
      {.dim = rows.dim, .bits = bits, .scale = Scale::kLeastSquares, .scale_search = false});
  if (!quantizer) return std::unexpected(quantizer.error());

  const auto encoded = quantizer->Encode(rows.view());
  if (!encoded) return std::unexpected(encoded.error());

  ExampleRows decoded(rows.rows, rows.dim);
  if (const auto done = quantizer->Decode(*encoded, decoded.view()); !done) {
    return std::unexpected(done.error());
  }
  const double error = RelativeError(rows, decoded);
  const double theory = quantizer->codebook().Distortion();
  std::printf("%4d %10zu %12.6f %12.6f\n", bits, encoded->CanonicalRowBytes() + 2, error, theory);
  return std::fabs(error / theory - 1.0) < 0.05;
}

}  // namespace

int main() {
  const ExampleRows rows = NormalRows(2000, 128, /*seed=*/1);
  std::printf("bits  row bytes        error       theory\n");
  for (int bits = 1; bits <= 8; ++bits) {
    const auto as_expected = EncodeAndDecode(rows, bits);
    if (!as_expected) {
      std::fprintf(stderr, "%s\n", as_expected.error().message.c_str());
      return 1;
    }
    if (!*as_expected) return 1;
  }
  return 0;
}
