#include "turboquant/page_pool.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "src/base/aligned_bytes.h"
#include "src/base/checked.h"
#include "src/base/failure.h"

namespace turboquant {

struct PagePool::State {
  struct FreeMemory {
    size_t bytes;
    void operator()(std::byte* memory) const noexcept { FreeAligned(memory, bytes); }
  };
  struct Slab {
    std::unique_ptr<std::byte, FreeMemory> memory;
    size_t used;   // from the beginning on, by pages that are or were
    size_t pages;  // that are
    size_t bytes() const { return memory.get_deleter().bytes; }
  };
  struct FreePage {
    std::byte* next;
  };
  // By their first bytes; std::less orders pointers into different allocations.
  using Slabs = std::map<std::byte*, Slab, std::less<>>;

  size_t slab_bytes;
  mutable std::mutex mutex;
  Slabs slabs;
  std::byte* open = nullptr;  // the slab that new pages are cut from
  // Free pages by size, the first of each chain; a free page begins with the next one, or null.
  std::map<size_t, std::byte*> free;
  size_t pages = 0;
  size_t page_bytes = 0;

  Slabs::iterator SlabOf(std::byte* page) { return std::prev(slabs.upper_bound(page)); }

  std::byte* Cut(size_t bytes) {
    if (open == nullptr || slabs[open].bytes() - slabs[open].used < bytes) {
      const size_t size = std::max(slab_bytes, RoundUp(bytes, kHugePageBytes));
      Slab slab = {{AllocateAligned(size), FreeMemory{size}}, 0, 0};
      std::byte* first = slab.memory.get();
      slabs.emplace(first, std::move(slab));
      open = first;
    }
    Slab& slab = slabs[open];
    return open + std::exchange(slab.used, slab.used + bytes);
  }

  // Its pages are all free.
  void Drop(Slabs::iterator slab) noexcept {
    const std::byte* end = slab->first + slab->second.bytes();
    for (auto& [size, first] : free) {
      std::byte* kept = nullptr;
      for (std::byte* page = first; page != nullptr;) {
        std::byte* next = NextOf(page);
        const bool inside = !std::less<>()(page, slab->first) && std::less<>()(page, end);
        if (!inside) SetNext(page, std::exchange(kept, page));
        page = next;
      }
      first = kept;
    }
    if (slab->first == open) open = nullptr;
    slabs.erase(slab);
  }

  static std::byte* NextOf(const std::byte* page) {
    FreePage link;
    std::memcpy(&link, page, sizeof(link));
    return link.next;
  }
  static void SetNext(std::byte* page, std::byte* next) {
    const FreePage link = {next};
    std::memcpy(page, &link, sizeof(link));
  }
};

PagePool::PagePool(const PagePoolOptions& options) : state_(std::make_unique<State>()) {
  state_->slab_bytes = options.slab_bytes;
}

PagePool::~PagePool() { assert(state_->pages == 0); }

Result<std::shared_ptr<PagePool>> PagePool::Create(const PagePoolOptions& options) {
  if (options.slab_bytes == 0 || options.slab_bytes % kHugePageBytes != 0) {
    return Fail(ErrorCode::kInvalidArgument, "slab_bytes must be a multiple of ", kHugePageBytes,
                ", got ", options.slab_bytes);
  }
  return std::shared_ptr<PagePool>(new PagePool(options));
}

PagePoolStats PagePool::Stats() const {
  const std::lock_guard lock(state_->mutex);
  PagePoolStats stats = {0, 0, state_->pages, state_->page_bytes};
  for (const auto& [bytes, slab] : state_->slabs) {
    stats.slab_bytes += slab.bytes();
    stats.used_bytes += slab.used;
  }
  return stats;
}

std::byte* PagePool::Take(size_t bytes) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  std::byte*& first = state.free[bytes];  // made here, so that GiveBack needs no memory
  std::byte* page = first;
  if (page != nullptr) {
    first = State::NextOf(page);
  } else {
    page = state.Cut(bytes);
  }
  ++state.SlabOf(page)->second.pages;
  ++state.pages;
  state.page_bytes += bytes;
  return page;
}

void PagePool::GiveBack(std::byte* page, size_t bytes) noexcept {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  State::SetNext(page, std::exchange(state.free.find(bytes)->second, page));
  --state.pages;
  state.page_bytes -= bytes;
  const auto slab = state.SlabOf(page);
  if (--slab->second.pages == 0) state.Drop(slab);
}

}  // namespace turboquant
