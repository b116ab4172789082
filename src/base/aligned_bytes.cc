#include "src/base/aligned_bytes.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace turboquant {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::align_val_t kHugeAlignment{kHugePageBytes};

// Where most of the memory lies in whole huge pages.
bool IsLarge(size_t size) { return size >= 2 * kHugePageBytes; }

}  // namespace

std::byte* AllocateAligned(size_t size) {
  if (!IsLarge(size)) return static_cast<std::byte*>(::operator new(size, kAlignment));
  auto* bytes = static_cast<std::byte*>(::operator new(size, kHugeAlignment));
#ifdef __linux__
  (void)madvise(bytes, size / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);  // it may not know
#endif
  return bytes;
}

void FreeAligned(std::byte* bytes, size_t size) noexcept {
  ::operator delete(bytes, size, IsLarge(size) ? kHugeAlignment : kAlignment);
}

}  // namespace turboquant
