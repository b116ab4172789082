#include <algorithm>
#include <cstring>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "turboquant/onnx/decoder.h"

namespace turboquant {
namespace {

// f16 rows as f32, for a writer that knows no other type, and back.
class F16Rows {
 public:
  F16Rows(std::byte* rows, size_t tokens, size_t heads, size_t dim, size_t first, size_t count)
      : rows_(reinterpret_cast<Float16*>(rows)),
        tokens_(tokens),
        heads_(heads),
        dim_(dim),
        first_(first),
        count_(count),
        f32_(heads * count * dim) {
    ForEach([](Float16& half, float& number) { number = F16ToF32(half); });
  }

  HeadsOutput output() { return HeadsOutput::HeadMajor(f32_.data(), count_, heads_, dim_); }

  void Store() {
    ForEach([](Float16& half, float& number) { half = F32ToF16(number); });
  }

 private:
  template <class Visit>
  void ForEach(Visit visit) {
    for (size_t head = 0; head < heads_; ++head) {
      Float16* row = rows_ + (head * tokens_ + first_) * dim_;
      float* number = f32_.data() + head * count_ * dim_;
      for (size_t i = 0; i < count_ * dim_; ++i) visit(row[i], number[i]);
    }
  }

  Float16* rows_;
  size_t tokens_;
  size_t heads_;
  size_t dim_;
  size_t first_;
  size_t count_;
  std::vector<float> f32_;
};

}  // namespace

HeadsView DecoderPast::View(const std::vector<std::byte>& rows) const {
  if (type_ == RowType::kF16) {
    return HeadsView::HeadMajor(reinterpret_cast<const Float16*>(rows.data()), tokens_, kv_heads_,
                                head_dim_);
  }
  return HeadsView::HeadMajor(reinterpret_cast<const float*>(rows.data()), tokens_, kv_heads_,
                              head_dim_);
}

Result<void> DecoderPast::Rewrite(size_t layer, size_t first, size_t count, const Writer& write) {
  if (layer >= layers_.size() || first > tokens_ || count > tokens_ - first) {
    return Fail(ErrorCode::kInvalidArgument, "tokens ", first, " to ", first + count, " of layer ",
                layer, " are not in a past of ", tokens_, " tokens and ", layers_.size(),
                " layers");
  }
  Layer& rows = layers_[layer];
  if (type_ == RowType::kF16) {
    F16Rows keys(rows.present_keys.data(), tokens_, kv_heads_, head_dim_, first, count);
    F16Rows values(rows.present_values.data(), tokens_, kv_heads_, head_dim_, first, count);
    TQ_CHECK(write(keys.output(), values.output()));
    keys.Store();
    values.Store();
    return {};
  }
  const auto output = [&](std::vector<std::byte>& bytes) {
    float* row = reinterpret_cast<float*>(bytes.data()) + first * head_dim_;
    return HeadsOutput{row, count, kv_heads_, head_dim_, head_dim_, tokens_ * head_dim_};
  };
  return write(output(rows.present_keys), output(rows.present_values));
}

size_t DecoderPast::HeldBytes() const {
  size_t bytes = 0;
  for (const Layer& layer : layers_) {
    bytes += layer.present_keys.capacity() + layer.present_values.capacity() +
             layer.past_keys.capacity() + layer.past_values.capacity();
  }
  return bytes;
}

}  // namespace turboquant
