// The pages of a cache: counted blocks of memory that forks share until one of them writes.
#ifndef TURBOQUANT_SRC_CACHE_KV_PAGES_H_
#define TURBOQUANT_SRC_CACHE_KV_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "turboquant/attention.h"
#include "turboquant/key_map.h"
#include "turboquant/kv_format.h"
#include "turboquant/page_pool.h"

namespace turboquant {

// What pages of a cache have in common.
struct PageKind {
  size_t page_bytes;               // of the tokens, a multiple of 64
  const RopeParameters* rope;      // null: no frames, so no turns
  std::shared_ptr<PagePool> pool;  // null: an allocation of its own
};

// One owner of a page. The page is a single zeroed piece of memory at a multiple of 64 that never
// moves: the bytes of the tokens, the turns of the frame, and the count of owners, which is atomic,
// so that forks may be used by different threads.
class PageRef {
 public:
  PageRef() = default;
  // A page whose first token stands at position `base`; turns by it if `rope` has frequencies.
  static PageRef Make(const PageKind& kind, uint64_t base);
  PageRef(const PageRef& other);
  PageRef(PageRef&& other) noexcept;
  PageRef& operator=(PageRef other) noexcept;
  ~PageRef();

  // A page of its own with the same contents.
  PageRef Clone() const;

  std::byte* bytes() const;
  uint64_t base() const;
  KvPage view() const;

  // What a page of so many bytes and turns takes beyond the bytes.
  static size_t ExtraBytes(size_t turn_count);
  size_t AllocatedBytes() const;

 private:
  struct Header;
  static PageRef Allocate(size_t page_bytes, size_t turn_count, uint64_t base,
                          std::shared_ptr<PagePool> pool);
  float* turns() const;
  Header* header_ = nullptr;
};

// Visible packed tokens lie in lanes [first_lane(), end_lane()), counted from lane 0 of the first
// page.
class PackedPages {
 public:
  PackedPages() = default;
  // Both share every page from now on, and copy one before they write to it.
  PackedPages Fork();

  size_t count() const { return entries_.size(); }
  size_t first_lane() const { return first_lane_; }
  size_t end_lane() const { return end_lane_; }
  size_t tokens() const { return end_lane_ - first_lane_; }
  std::span<const KvPage> view() const { return view_; }

  // Page i, to write to: itself, or a copy while it is shared; Commit puts the copy in its place.
  PageRef Writable(size_t i) const;

  // Makes `written` the pages from index `first` on (`first` may lie behind the last page where all
  // pages before are evicted) and [first_lane, end_lane) the visible lanes, counted as before.
  // Pages that hold no visible lane are dropped.
  void Commit(size_t first, std::vector<PageRef> written, size_t first_lane, size_t end_lane);

  // Keeps the first n tokens. `clear(bytes, first_lane, count)` zeroes lanes of a page.
  void Truncate(
      size_t n,
      const std::function<void(std::byte* bytes, size_t first_lane, size_t count)>& clear);

  void Clear() { *this = PackedPages(); }

  size_t ListBytes() const {
    return entries_.capacity() * sizeof(Entry) + view_.capacity() * sizeof(KvPage);
  }
  size_t PageBytes() const;  // of all pages, turns and counts included

 private:
  struct Entry {
    PageRef page;
    // By a fork, now or once: a flag of each cache, as another thread may just be letting go.
    bool shared;
  };
  void Renumber(size_t first);  // the views of pages from `first` on

  std::vector<Entry> entries_;
  std::vector<KvPage> view_;
  size_t first_lane_ = 0;
  size_t end_lane_ = 0;
};

}  // namespace turboquant

#endif  // TURBOQUANT_SRC_CACHE_KV_PAGES_H_
