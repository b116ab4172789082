// KV caches in files: safetensors with metadata "format": "turboquant.kv". docs/format.md describes
// the bytes.
//
// A snapshot holds what decides the cache's future: options, visible tokens (packed ones as codes,
// exact ones as they are), key map, outlier channels, positions, and queries observed for a key map
// that is still awaited. A loaded cache answers Attend, Scores and Reconstruct bit for bit as the
// saved one does, goes on from there as it would, and saves to the same bytes. Pages shared with
// forks are shared no more.
//
// Every load checks the whole file before a cache comes out of it: container, format, version,
// checksums, that all options, tensors and shapes are there and no others, padding bits, codes,
// scales, finite numbers, positions. Errors of all loads: kIo; kCorruptData naming the culprit;
// kUnsupported for a newer version; kInvalidArgument for a file of another format or of the other
// kind of cache; kUnavailable for the backend.
#ifndef TURBOQUANT_SNAPSHOT_H_
#define TURBOQUANT_SNAPSHOT_H_

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "turboquant/backend.h"
#include "turboquant/decoder_cache.h"
#include "turboquant/error.h"
#include "turboquant/kv_cache.h"

namespace turboquant {

// Writes the file through a temporary one; a failed call leaves `path` as it was. Equal contents
// give equal bytes. Errors: kIo.
[[nodiscard]] Result<void> SaveKvCache(const std::filesystem::path& path, const KvCache& cache);
[[nodiscard]] Result<void> SaveDecoderCache(const std::filesystem::path& path,
                                            const DecoderCache& cache);

// The bytes of the file.
[[nodiscard]] Result<std::vector<std::byte>> SerializeKvCache(const KvCache& cache);
[[nodiscard]] Result<std::vector<std::byte>> SerializeDecoderCache(const DecoderCache& cache);

// A cache with the options of the file. Files whose dense rotations and Gaussian sketches would
// take more than 2^27 numbers are refused as kUnsupported: Create makes them before it sees a
// token.
[[nodiscard]] Result<KvCache> LoadKvCache(const std::filesystem::path& path,
                                          Backend backend = Backend::kAuto);
[[nodiscard]] Result<DecoderCache> LoadDecoderCache(const std::filesystem::path& path,
                                                    Backend backend = Backend::kAuto);

// A cache with the options that the caller expects, and their backend. Errors: also
// kInvalidArgument naming the first option that the file has otherwise, with both texts; all but
// the backend are compared, a known_key_map by its numbers.
[[nodiscard]] Result<KvCache> LoadKvCache(const std::filesystem::path& path,
                                          const KvCacheOptions& expected);
[[nodiscard]] Result<DecoderCache> LoadDecoderCache(const std::filesystem::path& path,
                                                    const DecoderCacheOptions& expected);

// The same from memory; the bytes are not needed afterwards.
[[nodiscard]] Result<KvCache> ReadKvCache(std::span<const std::byte> bytes,
                                          Backend backend = Backend::kAuto);
[[nodiscard]] Result<KvCache> ReadKvCache(std::span<const std::byte> bytes,
                                          const KvCacheOptions& expected);
[[nodiscard]] Result<DecoderCache> ReadDecoderCache(std::span<const std::byte> bytes,
                                                    Backend backend = Backend::kAuto);
[[nodiscard]] Result<DecoderCache> ReadDecoderCache(std::span<const std::byte> bytes,
                                                    const DecoderCacheOptions& expected);

}  // namespace turboquant

#endif  // TURBOQUANT_SNAPSHOT_H_
