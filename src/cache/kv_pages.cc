#include "src/cache/kv_pages.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>
#include <new>
#include <utility>

#include "src/base/aligned_bytes.h"
#include "src/base/checked.h"
#include "src/cache/page_frame.h"

namespace turboquant {

struct PageRef::Header {
  std::atomic<size_t> owners;
  std::byte* bytes;  // the allocation: page bytes, turns, this
  size_t page_bytes;
  size_t turn_count;
  uint64_t base;
  std::shared_ptr<PagePool> pool;  // null: the allocation stands alone
};

size_t PageRef::ExtraBytes(size_t turn_count) {
  return RoundUp(turn_count * sizeof(float), alignof(Header)) + sizeof(Header);
}

size_t PageRef::AllocatedBytes() const {
  const size_t bytes = header_->page_bytes + ExtraBytes(header_->turn_count);
  return header_->pool == nullptr ? bytes : RoundUp(bytes, 64);
}

PageRef PageRef::Allocate(size_t page_bytes, size_t turn_count, uint64_t base,
                          std::shared_ptr<PagePool> pool) {
  assert(page_bytes % 64 == 0);
  const size_t header_at = page_bytes + ExtraBytes(turn_count) - sizeof(Header);
  const size_t size = header_at + sizeof(Header);
  std::byte* bytes = pool == nullptr ? AllocateAligned(size) : pool->Take(RoundUp(size, 64));
  PageRef page;
  page.header_ =
      ::new (bytes + header_at) Header{1, bytes, page_bytes, turn_count, base, std::move(pool)};
  return page;
}

PageRef PageRef::Make(const PageKind& kind, uint64_t base) {
  const size_t pairs = kind.rope == nullptr ? 0 : kind.rope->inverse_frequencies.size();
  PageRef page = Allocate(kind.page_bytes, 2 * pairs, base, kind.pool);
  std::memset(page.bytes(), 0, kind.page_bytes);
  if (pairs != 0) MakeTurns(*kind.rope, base, {page.turns(), 2 * pairs});
  return page;
}

PageRef PageRef::Clone() const {
  PageRef clone = Allocate(header_->page_bytes, header_->turn_count, header_->base, header_->pool);
  std::memcpy(clone.bytes(), bytes(), header_->page_bytes + header_->turn_count * sizeof(float));
  return clone;
}

PageRef::PageRef(const PageRef& other) : header_(other.header_) {
  if (header_ != nullptr) header_->owners.fetch_add(1, std::memory_order_relaxed);
}

PageRef::PageRef(PageRef&& other) noexcept : header_(std::exchange(other.header_, nullptr)) {}

PageRef& PageRef::operator=(PageRef other) noexcept {
  std::swap(header_, other.header_);
  return *this;
}

PageRef::~PageRef() {
  // The last owner must see what the others wrote before they let go.
  if (header_ == nullptr || header_->owners.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::byte* bytes = header_->bytes;
  const size_t size = AllocatedBytes();
  const std::shared_ptr<PagePool> pool = std::move(header_->pool);
  header_->~Header();
  if (pool == nullptr) {
    FreeAligned(bytes, size);
  } else {
    pool->GiveBack(bytes, size);
  }
}

std::byte* PageRef::bytes() const { return header_->bytes; }
uint64_t PageRef::base() const { return header_->base; }

float* PageRef::turns() const {
  return reinterpret_cast<float*>(header_->bytes + header_->page_bytes);
}

KvPage PageRef::view() const {
  return {header_->bytes, header_->turn_count == 0 ? nullptr : turns()};
}

PackedPages PackedPages::Fork() {
  for (Entry& entry : entries_) entry.shared = true;
  return *this;
}

PageRef PackedPages::Writable(size_t i) const {
  return entries_[i].shared ? entries_[i].page.Clone() : entries_[i].page;
}

void PackedPages::Commit(size_t first, std::vector<PageRef> written, size_t first_lane,
                         size_t end_lane) {
  const size_t dropped = first_lane / kPageTokens;
  const size_t old_count = entries_.size();
  assert(first <= old_count || first == dropped);
  for (size_t i = 0; i < written.size(); ++i) {
    if (first + i < entries_.size()) {
      const bool same = entries_[first + i].page.bytes() == written[i].bytes();
      if (!same) entries_[first + i] = {std::move(written[i]), /*shared=*/false};
    } else {
      entries_.push_back({std::move(written[i]), /*shared=*/false});
    }
  }
  const size_t never_made = first > old_count ? first - old_count : 0;
  const size_t gone = first_lane == end_lane ? entries_.size() : dropped - never_made;
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<ptrdiff_t>(gone));
  first_lane_ = first_lane == end_lane ? 0 : first_lane - dropped * kPageTokens;
  end_lane_ = first_lane == end_lane ? 0 : end_lane - dropped * kPageTokens;
  Renumber(gone == 0 ? std::min(first, old_count) : 0);
}

void PackedPages::Truncate(
    size_t n, const std::function<void(std::byte* bytes, size_t first_lane, size_t count)>& clear) {
  if (n == tokens()) return;
  if (n == 0) return Clear();
  const size_t end = first_lane_ + n;
  const size_t pages = CeilDivide(end, kPageTokens);
  const size_t cleared_end = std::min(end_lane_, pages * kPageTokens);
  if (end < cleared_end) {
    entries_[pages - 1] = {Writable(pages - 1), /*shared=*/false};
    const size_t page_begin = (pages - 1) * kPageTokens;
    clear(entries_[pages - 1].page.bytes(), end - page_begin, cleared_end - end);
  }
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(pages), entries_.end());
  end_lane_ = end;
  Renumber(pages - 1);
}

size_t PackedPages::PageBytes() const {
  size_t bytes = 0;
  for (const Entry& entry : entries_) bytes += entry.page.AllocatedBytes();
  return bytes;
}

void PackedPages::Renumber(size_t first) {
  view_.resize(entries_.size());
  for (size_t i = first; i < entries_.size(); ++i) view_[i] = entries_[i].page.view();
}

}  // namespace turboquant
