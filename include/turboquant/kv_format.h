// What the bytes of a cache page mean: methods, widths, rotations, layout.
#ifndef TURBOQUANT_KV_FORMAT_H_
#define TURBOQUANT_KV_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "turboquant/backend.h"
#include "turboquant/error.h"
#include "turboquant/key_map.h"
#include "turboquant/mse_quantizer.h"
#include "turboquant/qjl.h"
#include "turboquant/rotation.h"

namespace turboquant {

// Packed tokens of a page, which is also one softmax block and one frame.
inline constexpr size_t kPageTokens = 256;

enum class KvMethod {
  kMse,   // TurboQuant-MSE, 1 to 8 bits
  kProd,  // TurboQuant-Prod, 2 to 8 bits in total; keys only
  kF16,   // unquantized
  kF32,   // unquantized
};

// How keys, or values, are packed.
struct KvSideOptions {
  KvMethod method = KvMethod::kMse;
  int bits = 4;                                 // kMse and kProd
  Scale scale = Scale::kUnbiased;               // kMse
  std::optional<bool> scale_search = {};        // kMse; unset: on at 3 to 7 bits
  SketchKind sketch = SketchKind::kOrthogonal;  // kProd
  // kMse: this many channels get one bit more (the paper's 2.5- and 3.5-bit modes have 32 of 128);
  // which, is decided by the mean squares of the first tokens. 0: none.
  size_t outlier_channels = 0;

  bool operator==(const KvSideOptions&) const = default;
};

struct KvFormatOptions {
  size_t head_dim = 0;  // 2 to 1024
  size_t kv_heads = 0;  // 1 to 1024
  KvSideOptions keys = {};
  KvSideOptions values = {};
  RotationKind rotation = RotationKind::kHadamard;
  int rotation_rounds = 1;  // keys and values are dense: one round is enough
  uint64_t seed = 42;
  uint32_t layer = 0;  // separates the random streams of layers
  Backend backend = Backend::kAuto;
};

// Immutable after Create; safe to share between threads. 8-bit kMse uses the uniform codebook,
// which is scored in one digit; other widths use Lloyd-Max.
//
// A page holds, for each KV head in turn, HeadBytes() bytes: the parts of the keys, then those of
// the values, each part its blocks (16 key blocks or 4 value blocks, docs/kernels.md) followed by
// 256 binary16 scales; an unquantized side is 256 rows of head_dim elements. Parts:
//   kMse    one; with outlier channels two, the outliers' first
//   kProd   the codes, then the signs as codes of 1 bit (1 = negative) whose scale is
//           scale · residual norm
// Every part begins at a multiple of 64 bytes.
class KvFormat {
 public:
  // Errors: kInvalidArgument naming the option; kUnavailable for the backend.
  [[nodiscard]] static Result<KvFormat> Create(const KvFormatOptions& options);

  const KvFormatOptions& options() const;  // with defaults filled in
  Backend backend() const;
  size_t HeadBytes() const;  // of one head in a page
  size_t PageBytes() const { return HeadBytes() * options().kv_heads; }

  // Bytes a token takes in full pages, all heads, keys and values with their scales.
  double BytesPerToken() const { return static_cast<double>(PageBytes()) / kPageTokens; }

  // Bytes of tables and rotations.
  size_t HeldBytes() const;

  // Identity of everything that decides what a page's bytes mean, outlier channels excepted.
  uint64_t fingerprint() const;

  // For the library's own use.
  struct Parts;
  const Parts& parts() const { return *parts_; }

 private:
  explicit KvFormat(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_KV_FORMAT_H_
