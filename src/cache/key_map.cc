#include "turboquant/key_map.h"

#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/math/balanced_map.h"
#include "src/quantizers/fingerprint.h"

namespace turboquant {
namespace {

// Numbers of the map a head: none, scales or a matrix.
std::optional<size_t> MapNumbers(KeyMapKind kind, size_t head_dim) {
  switch (kind) {
    case KeyMapKind::kNone:
    case KeyMapKind::kCenter:
      return 0;
    case KeyMapKind::kDiagonal:
      return head_dim;
    case KeyMapKind::kFull:
      return CheckedMultiply(head_dim, head_dim);
  }
  return std::nullopt;
}

Result<void> CheckCount(std::string_view name, size_t count, std::optional<size_t> per_head,
                        size_t kv_heads) {
  const std::optional<size_t> expected =
      per_head ? CheckedMultiply(*per_head, kv_heads) : std::nullopt;
  if (expected && *expected == count) return {};
  return Fail(ErrorCode::kDimensionMismatch, "the key map's ", name, " has ", count,
              " numbers, expected ", per_head.value_or(SIZE_MAX), " for each of ", kv_heads,
              " KV heads");
}

Result<void> CheckFinite(std::string_view name, std::span<const float> numbers, size_t per_head) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (!std::isfinite(numbers[i])) {
      return Fail(ErrorCode::kCorruptData, "the key map's ", name, " of KV head ", i / per_head,
                  " is not finite at ", i % per_head);
    }
  }
  return {};
}

Result<void> CheckQueryWeights(std::span<const float> weights, KeyMapKind kind, size_t kv_heads,
                               size_t head_dim) {
  if (weights.empty()) return {};
  if (kind != KeyMapKind::kDiagonal) {
    return Fail(ErrorCode::kInvalidArgument, "query_weights belong to a diagonal key map only");
  }
  TQ_CHECK(CheckCount("query_weights", weights.size(), head_dim, kv_heads));
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] > 0.0f && std::isfinite(weights[i])) continue;
    return Fail(ErrorCode::kCorruptData, "the key map's query_weights of KV head ", i / head_dim,
                " at ", i % head_dim, " must be positive and finite, got ",
                static_cast<double>(weights[i]));
  }
  return {};
}

// 1 / scale, [kv_heads × head_dim].
Result<std::vector<float>> InvertScales(std::span<const float> scales, size_t head_dim) {
  std::vector<float> inverse(scales.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    inverse[i] = 1.0f / scales[i];
    if (scales[i] > 0.0f && std::isfinite(inverse[i])) continue;
    return Fail(ErrorCode::kCorruptData, "the key map's scale of KV head ", i / head_dim, " at ",
                i % head_dim, " must be positive and have an inverse, got ",
                static_cast<double>(scales[i]));
  }
  return inverse;
}

// The transposed inverses, [kv_heads × head_dim × head_dim].
Result<std::vector<float>> InvertTransposed(std::span<const float> matrices, size_t kv_heads,
                                            size_t head_dim) {
  const size_t count = head_dim * head_dim;
  std::vector<float> result(matrices.size());
  std::vector<double> matrix(count);
  for (size_t head = 0; head < kv_heads; ++head) {
    for (size_t i = 0; i < count; ++i) matrix[i] = matrices[head * count + i];
    const std::optional<std::vector<double>> inverse = InvertMatrix(head_dim, matrix);
    bool finite = inverse.has_value();
    for (size_t i = 0; finite && i < count; ++i) {
      const float x = static_cast<float>((*inverse)[i % head_dim * head_dim + i / head_dim]);
      finite = std::isfinite(x);
      result[head * count + i] = x;
    }
    if (!finite) {
      return Fail(ErrorCode::kCorruptData, "the key map's matrix of KV head ", head,
                  " is singular");
    }
  }
  return result;
}

void AddNumbers(std::span<const float> numbers, Fingerprint& fingerprint) {
  for (const float x : numbers) fingerprint.Add(std::bit_cast<uint32_t>(x));
}

}  // namespace

RopeParameters RopeParameters::FromTheta(double theta, size_t rotary_dim, RopePairing pairing) {
  assert(rotary_dim % 2 == 0 && theta > 0.0);
  RopeParameters rope{std::vector<double>(rotary_dim / 2), pairing};
  for (size_t i = 0; i < rotary_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(rotary_dim);
    rope.inverse_frequencies[i] = std::pow(theta, -exponent);
  }
  return rope;
}

Result<KeyMap> KeyMap::FromNumbers(KeyMapKind kind, size_t kv_heads, size_t head_dim,
                                   std::span<const float> center, std::span<const float> map,
                                   std::span<const float> query_weights) {
  if (kind == KeyMapKind::kNone) {
    return Fail(ErrorCode::kInvalidArgument,
                "a key map must have a centre at least, got kind none");
  }
  if (kv_heads == 0 || head_dim == 0) {
    return Fail(ErrorCode::kDimensionMismatch, "a key map needs kv_heads and head_dim, got ",
                kv_heads, " and ", head_dim);
  }
  const std::optional<size_t> map_numbers = MapNumbers(kind, head_dim);
  TQ_CHECK(CheckCount("centre", center.size(), head_dim, kv_heads));
  TQ_CHECK(CheckCount("map", map.size(), map_numbers, kv_heads));
  TQ_CHECK(CheckFinite("centre", center, head_dim));
  TQ_CHECK(CheckQueryWeights(query_weights, kind, kv_heads, head_dim));
  TQ_CHECK(CheckFinite("map", map, *map_numbers));

  KeyMap result;
  result.kind_ = kind;
  result.kv_heads_ = kv_heads;
  result.head_dim_ = head_dim;
  result.center_.assign(center.begin(), center.end());
  if (kind == KeyMapKind::kDiagonal) {
    TQ_TRY(result.inverse_scale_, InvertScales(map, head_dim));
    result.scale_.assign(map.begin(), map.end());
  } else if (kind == KeyMapKind::kFull) {
    TQ_TRY(result.inverse_transpose_, InvertTransposed(map, kv_heads, head_dim));
    result.matrix_.assign(map.begin(), map.end());
  }
  result.query_weights_.assign(query_weights.begin(), query_weights.end());
  Fingerprint fingerprint;
  fingerprint.Add(kind).Add(kv_heads).Add(head_dim);
  AddNumbers(center, fingerprint);
  AddNumbers(map, fingerprint);
  AddNumbers(query_weights, fingerprint);
  result.fingerprint_ = fingerprint.value();
  return result;
}

size_t KeyMap::HeldBytes() const {
  size_t bytes = 0;
  for (const std::vector<float>* part :
       {&center_, &scale_, &inverse_scale_, &query_weights_, &matrix_, &inverse_transpose_}) {
    bytes += part->capacity() * sizeof(float);
  }
  return bytes;
}

}  // namespace turboquant
