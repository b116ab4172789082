#include "turboquant/snapshot.h"

#include <optional>
#include <string>
#include <utility>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/storage/checked_tensors.h"
#include "src/storage/kv_snapshot.h"
#include "src/storage/option_rules.h"
#include "src/storage/snapshot_state.h"
#include "src/storage/text.h"

namespace turboquant {
namespace {

constexpr FileFormat kKvFormat = {"turboquant.kv", 1};
constexpr OptionRule kLayersRule[] = {{"layers", OptionKind::kNumber, 1, 4096}};
// Of dense rotations and Gaussian sketches that a file without expectations may ask for.
constexpr uint64_t kMostDenseNumbers = uint64_t{1} << 27;

std::string LayerPrefix(size_t layer) { return "layers." + std::to_string(layer) + "."; }

// A file that has been opened and whose checksums and options are right.
struct Snapshot {
  SafetensorsFile file;
  StringMap metadata;
  std::optional<size_t> layers;  // of a decoder cache

  SnapshotMetadata Of(size_t layer) const {
    return {metadata, layers ? LayerPrefix(layer) : std::string()};
  }
};

Result<Snapshot> OpenSnapshot(const SafetensorsFile& file) {
  TQ_TRY(StringMap metadata, VerifyChecked(file, kKvFormat));
  Snapshot snapshot{file, std::move(metadata), std::nullopt};
  std::set<std::string> expected;
  if (snapshot.metadata.contains("layers")) {
    TQ_CHECK(CheckOptionRules("a snapshot", kLayersRule, "", snapshot.metadata, expected));
    snapshot.layers = ParseDecimal(snapshot.metadata.at("layers"));
  }
  for (size_t layer = 0; layer < snapshot.layers.value_or(1); ++layer) {
    const SnapshotMetadata metadata_of_layer = snapshot.Of(layer);
    TQ_CHECK(metadata_of_layer.Check(expected));
    if (snapshot.layers && metadata_of_layer.Number("layer") != layer) {
      return Fail(ErrorCode::kCorruptData, "option '", metadata_of_layer.prefix(), "layer' is ",
                  metadata_of_layer.Number("layer"));
    }
  }
  TQ_CHECK(CheckNoOthers("a snapshot", snapshot.metadata, expected));
  return snapshot;
}

Result<void> CheckKind(const Snapshot& snapshot, bool decoder) {
  if (snapshot.layers.has_value() == decoder) return {};
  if (decoder) {
    return Fail(ErrorCode::kInvalidArgument,
                "the snapshot holds a single cache, not those of a decoder");
  }
  return Fail(ErrorCode::kInvalidArgument, "the snapshot holds the caches of a decoder of ",
              *snapshot.layers, " layers, not a single one");
}

// Numbers of the matrices that Create makes for one cache.
uint64_t DenseNumbers(const KvCacheOptions& options) {
  const KvFormatOptions& format = options.format;
  const bool dense = format.rotation == RotationKind::kDense;
  const bool gaussian = format.keys.method == KvMethod::kProd &&
                        (format.keys.sketch == SketchKind::kGaussian || format.head_dim < 32);
  return (dense ? 2u : 0u) * format.kv_heads * format.head_dim * format.head_dim +
         (gaussian ? 1u : 0u) * format.kv_heads * format.head_dim * format.head_dim;
}

Result<void> CheckDenseNumbers(const Snapshot& snapshot) {
  uint64_t numbers = 0;
  for (size_t layer = 0; layer < snapshot.layers.value_or(1); ++layer) {
    numbers += DenseNumbers(snapshot.Of(layer).Options());
  }
  if (numbers <= kMostDenseNumbers) return {};
  return Fail(ErrorCode::kUnsupported, "the snapshot asks for dense matrices of ", numbers,
              " numbers, more than ", kMostDenseNumbers,
              ": load it with the options that you expect");
}

Result<void> CompareFrequencies(const SnapshotMetadata& metadata, const KvCacheOptions& in_file,
                                const KvCacheOptions& expected) {
  if (!in_file.rope) return {};
  const std::vector<double>& got = in_file.rope->inverse_frequencies;
  const std::vector<double>& wanted = expected.rope->inverse_frequencies;
  if (got.size() != wanted.size()) {
    return Fail(ErrorCode::kInvalidArgument, metadata.prefix(), "rope has ", got.size(),
                " inverse_frequencies in the snapshot, ", wanted.size(), " were expected");
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == wanted[i]) continue;
    return Fail(ErrorCode::kInvalidArgument, metadata.prefix(), "rope.inverse_frequencies[", i,
                "] is ", got[i], " in the snapshot, ", wanted[i], " was expected");
  }
  return {};
}

// The cache of one layer. `expected` is empty and has the options that are wanted; null: those of
// the file are.
Result<KvCache> ReadCache(const Snapshot& snapshot, size_t layer, SnapshotTensors& tensors,
                          KvCache* expected, Backend backend) {
  const SnapshotMetadata metadata = snapshot.Of(layer);
  if (expected != nullptr) {
    const OptionTexts texts = TextsOf(KvSnapshot::StateOf(*expected));
    TQ_CHECK(metadata.Compare(texts, ErrorCode::kInvalidArgument));
  }
  KvCacheOptions options = metadata.Options();
  TQ_CHECK(ReadFrequencies(metadata, tensors, options));
  TQ_TRY(std::shared_ptr<const KeyMap> key_map, ReadKeyMap(metadata, tensors));
  if (expected != nullptr) {
    TQ_CHECK(CompareFrequencies(metadata, options, expected->options()));
    const KeyMap* known = expected->options().known_key_map.get();
    if (known != nullptr && known->fingerprint() != key_map->fingerprint()) {
      return Fail(ErrorCode::kInvalidArgument, metadata.prefix(),
                  "known_key_map has other numbers in the snapshot than were expected");
    }
    TQ_CHECK(RestoreState(metadata, tensors, key_map.get(), KvSnapshot::StateOf(*expected)));
    return std::move(*expected);
  }
  options.format.backend = backend;
  if (metadata.Flag("key_map_given")) options.known_key_map = key_map;
  Result<KvCache> cache = KvCache::Create(options);
  if (!cache) {
    if (cache.error().code == ErrorCode::kUnavailable) return cache;
    return Fail(ErrorCode::kCorruptData, "the snapshot's options", metadata.InWhat(),
                " make no cache: ", cache.error().message);
  }
  KvCache::State& state = KvSnapshot::StateOf(*cache);
  TQ_CHECK(metadata.Compare(TextsOf(state), ErrorCode::kCorruptData));  // codebooks
  TQ_CHECK(RestoreState(metadata, tensors, key_map.get(), state));
  return cache;
}

Result<KvCache> ReadSingle(const SafetensorsFile& file, KvCache* expected, Backend backend) {
  TQ_TRY(const Snapshot snapshot, OpenSnapshot(file));
  TQ_CHECK(CheckKind(snapshot, /*decoder=*/false));
  if (expected == nullptr) TQ_CHECK(CheckDenseNumbers(snapshot));
  SnapshotTensors tensors(file);
  TQ_TRY(KvCache cache, ReadCache(snapshot, 0, tensors, expected, backend));
  TQ_CHECK(tensors.CheckNoOthers());
  return cache;
}

Result<DecoderCache> ReadLayers(const SafetensorsFile& file, DecoderCache* expected,
                                Backend backend) {
  TQ_TRY(const Snapshot snapshot, OpenSnapshot(file));
  TQ_CHECK(CheckKind(snapshot, /*decoder=*/true));
  if (expected == nullptr) {
    TQ_CHECK(CheckDenseNumbers(snapshot));
  } else if (expected->layers() != *snapshot.layers) {
    return Fail(ErrorCode::kInvalidArgument, "option 'layers' is ", *snapshot.layers,
                " in the snapshot, ", expected->layers(), " was expected");
  }
  SnapshotTensors tensors(file);
  std::vector<KvCache> caches;
  for (size_t layer = 0; layer < *snapshot.layers; ++layer) {
    KvCache* wanted = expected == nullptr ? nullptr : &expected->layer(layer);
    TQ_TRY(KvCache cache, ReadCache(snapshot, layer, tensors, wanted, backend));
    caches.push_back(std::move(cache));
  }
  TQ_CHECK(tensors.CheckNoOthers());
  return KvSnapshot::MakeDecoder(std::move(caches));
}

struct SnapshotContents {
  OwnedTensors tensors;
  StringMap metadata;
};

SnapshotContents ContentsOf(const KvCache& cache) {
  SnapshotContents contents;
  AddCache(KvSnapshot::StateOf(cache), "", contents.tensors, contents.metadata);
  return contents;
}

SnapshotContents ContentsOf(const DecoderCache& cache) {
  SnapshotContents contents;
  contents.metadata["layers"] = std::to_string(cache.layers());
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    AddCache(KvSnapshot::StateOf(cache.layer(layer)), LayerPrefix(layer), contents.tensors,
             contents.metadata);
  }
  return contents;
}

template <class Cache>
Result<void> Save(const std::filesystem::path& path, const Cache& cache) {
  const SnapshotContents contents = ContentsOf(cache);
  return WriteChecked(path, kKvFormat, contents.tensors.views(), contents.metadata);
}

template <class Cache>
Result<std::vector<std::byte>> SerializeCache(const Cache& cache) {
  const SnapshotContents contents = ContentsOf(cache);
  return SerializeChecked(kKvFormat, contents.tensors.views(), contents.metadata);
}

}  // namespace

Result<void> SaveKvCache(const std::filesystem::path& path, const KvCache& cache) {
  return Save(path, cache);
}

Result<void> SaveDecoderCache(const std::filesystem::path& path, const DecoderCache& cache) {
  return Save(path, cache);
}

Result<std::vector<std::byte>> SerializeKvCache(const KvCache& cache) {
  return SerializeCache(cache);
}

Result<std::vector<std::byte>> SerializeDecoderCache(const DecoderCache& cache) {
  return SerializeCache(cache);
}

Result<KvCache> LoadKvCache(const std::filesystem::path& path, Backend backend) {
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::Open(path));
  return InFile(path, ReadSingle(file, nullptr, backend));
}

Result<KvCache> LoadKvCache(const std::filesystem::path& path, const KvCacheOptions& expected) {
  TQ_TRY(KvCache cache, KvCache::Create(expected));
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::Open(path));
  return InFile(path, ReadSingle(file, &cache, Backend::kAuto));
}

Result<DecoderCache> LoadDecoderCache(const std::filesystem::path& path, Backend backend) {
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::Open(path));
  return InFile(path, ReadLayers(file, nullptr, backend));
}

Result<DecoderCache> LoadDecoderCache(const std::filesystem::path& path,
                                      const DecoderCacheOptions& expected) {
  TQ_TRY(DecoderCache cache, DecoderCache::Create(expected));
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::Open(path));
  return InFile(path, ReadLayers(file, &cache, Backend::kAuto));
}

Result<KvCache> ReadKvCache(std::span<const std::byte> bytes, Backend backend) {
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::FromBytes(bytes));
  return ReadSingle(file, nullptr, backend);
}

Result<KvCache> ReadKvCache(std::span<const std::byte> bytes, const KvCacheOptions& expected) {
  TQ_TRY(KvCache cache, KvCache::Create(expected));
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::FromBytes(bytes));
  return ReadSingle(file, &cache, Backend::kAuto);
}

Result<DecoderCache> ReadDecoderCache(std::span<const std::byte> bytes, Backend backend) {
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::FromBytes(bytes));
  return ReadLayers(file, nullptr, backend);
}

Result<DecoderCache> ReadDecoderCache(std::span<const std::byte> bytes,
                                      const DecoderCacheOptions& expected) {
  TQ_TRY(DecoderCache cache, DecoderCache::Create(expected));
  TQ_TRY(const SafetensorsFile file, SafetensorsFile::FromBytes(bytes));
  return ReadLayers(file, &cache, Backend::kAuto);
}

}  // namespace turboquant
