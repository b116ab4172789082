// The program of README.md, against the installed headers and library.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "turboquant/mse_quantizer.h"

// Compresses `rows` to 4 bits per coordinate and scores one query against all of them.
turboquant::Result<std::vector<float>> ScoreCompressed(turboquant::MatrixView<const float> rows,
                                                       turboquant::MatrixView<const float> query) {
  const auto quantizer = turboquant::MseQuantizer::Create({.dim = rows.cols, .bits = 4});
  if (!quantizer) return std::unexpected(quantizer.error());

  const auto encoded = quantizer->Encode(rows);  // packed codes and one f16 scale per row
  if (!encoded) return std::unexpected(encoded.error());

  const auto prepared = quantizer->Prepare(query);  // rotated once, for any number of rows
  if (!prepared) return std::unexpected(prepared.error());

  std::vector<float> scores(encoded->size());
  const auto scored =
      quantizer->Score(*prepared, *encoded, {scores.data(), 1, scores.size(), scores.size()});
  if (!scored) return std::unexpected(scored.error());
  return scores;
}

int main() {
  constexpr size_t kRows = 100;
  constexpr size_t kDim = 128;
  std::vector<float> rows(kRows * kDim);
  uint32_t state = 1;
  for (float& coordinate : rows) {  // uniform in [-1, 1)
    state = state * 1664525u + 1013904223u;
    coordinate = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  const auto scores =
      ScoreCompressed({rows.data(), kRows, kDim, kDim}, {rows.data(), 1, kDim, kDim});
  if (!scores) {
    std::fprintf(stderr, "%s\n", scores.error().message.c_str());
    return 1;
  }
  // The query is row 0 itself, so row 0 scores highest and its score is its squared norm.
  float squared_norm = 0.0f;
  for (size_t j = 0; j < kDim; ++j) squared_norm += rows[j] * rows[j];
  for (size_t i = 1; i < kRows; ++i) {
    if ((*scores)[i] >= (*scores)[0]) {
      std::fprintf(stderr, "row %zu scores above the query's own row\n", i);
      return 1;
    }
  }
  const float error = ((*scores)[0] - squared_norm) / squared_norm;
  std::printf("score of a row with itself: off by %.2e of its squared norm\n", error);
  return error < 0.01f && error > -0.01f ? 0 : 1;
}
