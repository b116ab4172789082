// Memory that many caches take their pages from.
#ifndef TURBOQUANT_PAGE_POOL_H_
#define TURBOQUANT_PAGE_POOL_H_

#include <cstddef>
#include <memory>

#include "turboquant/error.h"

namespace turboquant {

struct PagePoolOptions {
  // What is asked of the system at once, a multiple of 2 MB. A page that is larger gets a slab of
  // its own.
  size_t slab_bytes = size_t{32} << 20;
};

struct PagePoolStats {
  size_t slab_bytes;  // of all slabs; what no page was ever made of takes addresses only
  size_t used_bytes;  // of slabs up to their last pages: what is in memory, but for 2 MB a slab
  size_t pages;       // in use
  size_t page_bytes;  // of those
};

// Pages of caches (KvCacheOptions::page_pool) in slabs that Linux is asked to back by pages of 2 MB
// (elsewhere by what it has): attention over long contexts looks up 512 times fewer addresses, and
// appending touches new memory 512 times less often. One pool serves any number of caches, of all
// layers and sequences; pages that come free are used again, slabs whose pages are all free go back
// to the system. Without a pool every page is an allocation of its own, to the byte.
//
// Lives as long as the last cache that has it. Safe to share between threads.
class PagePool {
 public:
  // Errors: kInvalidArgument naming the option.
  [[nodiscard]] static Result<std::shared_ptr<PagePool>> Create(
      const PagePoolOptions& options = {});
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();

  PagePoolStats Stats() const;

 private:
  friend class PageRef;
  struct State;
  explicit PagePool(const PagePoolOptions& options);
  // Uninitialised, at a multiple of 64; bytes is one as well.
  std::byte* Take(size_t bytes);
  void GiveBack(std::byte* page, size_t bytes) noexcept;

  std::unique_ptr<State> state_;
};

}  // namespace turboquant

#endif  // TURBOQUANT_PAGE_POOL_H_
