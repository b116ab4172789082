// Small encoded-row files of every method, made without a quantizer.
#ifndef TURBOQUANT_TESTS_STORAGE_ROWS_EXAMPLES_H_
#define TURBOQUANT_TESTS_STORAGE_ROWS_EXAMPLES_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/storage/storage_testing.h"
#include "turboquant/rows_file.h"

namespace turboquant {

// A file whose bytes can be changed.
struct RowsExample {
  std::string method;
  StringMap options;
  size_t rows;
  EditableFile tensors;

  EncodedRowsFile File() const { return {method, options, rows, tensors.Views(), nullptr}; }
};

inline RowsExample MakeRowsExample(const std::string& method) {
  using Type = TensorType;
  const StringMap common = {{"dim", "32"},         {"head", "0"},  {"layer", "0"},
                            {"scale_type", "f16"}, {"seed", "42"}, {"side", "0"}};
  const StringMap rotation = {{"rotation", "hadamard"}, {"rotation_rounds", "2"}};
  const auto options = [&](std::vector<StringMap> groups) {
    StringMap all = common;
    for (const StringMap& group : groups) all.insert(group.begin(), group.end());
    return all;
  };
  // Two rows of that many bits, the padding behind them zero.
  const auto codes = [](size_t bits) {
    Bytes row((bits + 7) / 8, std::byte{0x11});
    if (bits % 8 != 0) row.back() &= static_cast<std::byte>((1u << bits % 8) - 1);
    Bytes rows = row;
    rows.insert(rows.end(), row.begin(), row.end());
    return rows;
  };
  const Bytes halves = BytesOf<uint16_t>({0x3C00, 0x0001});  // 1, and the smallest above 0
  const StringMap book = {
      {"codebook", "lloyd-max"}, {"codebook_crc32", "0000abcd"}, {"codebook_density", "auto"}};
  const StringMap sketch = {{"sketch", "orthogonal"}, {"sketch_rows", "30"}};
  if (method == "mse") {
    return {
        method,
        options({rotation, book, {{"bits", "3"}, {"scale", "norm"}, {"scale_search", "false"}}}),
        2,
        {{{"codes", Type::kU8, {2, 12}, codes(96)}, {"scales", Type::kF16, {2}, halves}}, {}}};
  }
  if (method == "prod") {
    return {method,
            options({rotation, book, sketch, {{"bits", "3"}}}),
            2,
            {{{"codes", Type::kU8, {2, 8}, codes(64)},
              {"scales", Type::kF16, {2}, halves},
              {"signs", Type::kU8, {2, 4}, codes(30)},
              {"residual_norms", Type::kF16, {2}, halves}},
             {}}};
  }
  if (method == "qjl") {
    return {method,
            options({sketch}),
            2,
            {{{"signs", Type::kU8, {2, 4}, codes(30)}, {"norms", Type::kF16, {2}, halves}}, {}}};
  }
  if (method == "polar") {
    const Bytes radii = BytesOf<uint16_t>({0x3C00, 0, 0x4000, 0x3C00});
    return {method,
            options({rotation, {{"form", "blocks"}, {"level_bits", "4,2,2,1"}}}),
            2,
            {{{"codes", Type::kU8, {2, 12}, codes(90)}, {"radii", Type::kF16, {2, 2}, radii}}, {}}};
  }
  return {"outlier",
          options({rotation,
                   {{"bits", "2"},
                    {"codebook_density", "auto"},
                    {"outlier_codebook_crc32", "00000001"},
                    {"outlier_dim", "3"},
                    {"regular_codebook_crc32", "00000002"},
                    {"scale", "norm"},
                    {"scale_search", "auto"}}}),
          2,
          {{{"outlier_codes", Type::kU8, {2, 2}, BytesOf<uint8_t>({0xFF, 1, 0, 0})},
            {"outlier_scales", Type::kF16, {2}, halves},
            {"regular_codes", Type::kU8, {2, 8}, codes(58)},
            {"regular_scales", Type::kF16, {2}, halves},
            {"outlier_channels", Type::kU32, {3}, BytesOf<uint32_t>({0, 9, 31})}},
           {}}};
}

}  // namespace turboquant

#endif  // TURBOQUANT_TESTS_STORAGE_ROWS_EXAMPLES_H_
