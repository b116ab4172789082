// Recorded keys, values and queries of a model: what its attention heads really saw. Safetensors
// files, as docs/format.md describes them.
#ifndef TURBOQUANT_TRACE_H_
#define TURBOQUANT_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "turboquant/error.h"
#include "turboquant/matrix_view.h"
#include "turboquant/safetensors.h"

namespace turboquant {

// How keys and queries relate to rotary position embedding.
struct TraceRope {
  enum class State {
    kPre,   // as projected: the embedding is still to be applied
    kPost,  // it has been applied
  };
  enum class Pairing {
    kHalf,         // coordinate i turns with i + rotary_dim / 2
    kInterleaved,  // coordinate 2 i turns with 2 i + 1
  };

  State state;
  double theta;  // base of the frequencies, > 0
  Pairing pairing;
  size_t rotary_dim;        // leading coordinates that turn; even, 2 to head_dim
  uint64_t first_position;  // position of token 0
};

// One attention head: samples of equal length, each a sequence of tokens with the queries that some
// of them asked.
class TraceHead {
 public:
  // From the tensors' names, or, where those carry none, from metadata "layer" and "head".
  std::optional<uint64_t> layer() const { return layer_; }
  std::optional<uint64_t> head() const { return head_; }

  size_t sample_count() const { return samples_; }  // at least 1
  size_t tokens() const { return tokens_; }         // of one sample; at least 1
  size_t queries() const { return queries_; }       // of one sample; may be 0
  size_t head_dim() const { return dim_; }
  size_t total_tokens() const { return samples_ * tokens_; }
  size_t total_queries() const { return samples_ * queries_; }

  // Keys and values together as f32: what compression is often compared with.
  size_t UncompressedBytes() const { return (keys_.size() + values_.size()) * sizeof(float); }

  // [tokens × head_dim] and [queries × head_dim] of a sample < sample_count(), with their real
  // norms. All finite. Valid as long as the trace.
  MatrixView<const float> keys(size_t sample) const { return Slice(keys_, sample, tokens_); }
  MatrixView<const float> values(size_t sample) const { return Slice(values_, sample, tokens_); }
  MatrixView<const float> query_rows(size_t sample) const {
    return Slice(query_rows_, sample, queries_);
  }

  // Token at which each query was asked, < tokens(). Causal attention includes it: a query at
  // position p sees keys 0 to p.
  std::span<const size_t> query_positions(size_t sample) const {
    return std::span(positions_).subspan(sample * queries_, queries_);
  }

 private:
  friend class TraceReader;
  TraceHead() = default;
  MatrixView<const float> Slice(const std::vector<float>& rows, size_t sample, size_t count) const {
    return {rows.data() + sample * count * dim_, count, dim_};
  }

  std::optional<uint64_t> layer_;
  std::optional<uint64_t> head_;
  size_t samples_ = 0;
  size_t tokens_ = 0;
  size_t queries_ = 0;
  size_t dim_ = 0;
  std::vector<float> keys_;
  std::vector<float> values_;
  std::vector<float> query_rows_;
  std::vector<size_t> positions_;
};

// Immutable; safe to share between threads.
//
// One head has tensors `keys`, `values` and `queries`, [tokens, dim] or [samples, tokens, dim], of
// F64, F32, F16 or BF16, and may have `query_positions` of I32, I64, U32 or U64, one for each
// query; several heads have the same names behind `layers.{l}.heads.{h}.`. Without positions query
// i is at token i if there are as many as tokens, otherwise all are at the last token. Format,
// version and checksums are checked where they are; other metadata and other tensors are ignored.
class KvTrace {
 public:
  // Errors: kIo; kCorruptData for a tensor that is missing, an ambiguous name, a position outside
  // the tokens, a malformed declaration or a broken container; kDimensionMismatch for shapes that
  // do not agree; kNonFinite naming tensor, sample, token or query, and column; kUnsupported for a
  // dtype or a newer version; kInvalidArgument for an encoded-row file.
  [[nodiscard]] static Result<KvTrace> Load(const std::filesystem::path& path);

  // The same from memory; the bytes are not needed afterwards.
  [[nodiscard]] static Result<KvTrace> FromBytes(std::span<const std::byte> bytes);

  // At least one, ascending by layer, then head.
  std::span<const TraceHead> heads() const { return heads_; }

  // nullopt: undeclared, which is no error but allows no page frames.
  const std::optional<TraceRope>& rope() const { return rope_; }

  // "model", "suite", "note", … as the file has them.
  const StringMap& metadata() const { return metadata_; }

 private:
  friend class TraceReader;
  KvTrace() = default;

  std::vector<TraceHead> heads_;
  std::optional<TraceRope> rope_;
  StringMap metadata_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_TRACE_H_
