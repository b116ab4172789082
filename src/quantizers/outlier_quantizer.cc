#include "turboquant/outlier_quantizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/fingerprint.h"
#include "src/quantizers/row_reader.h"
#include "src/quantizers/run_tasks.h"

namespace turboquant {
namespace {

constexpr size_t kTaskRows = 256;
constexpr uint32_t kOutlierSide = 128;  // added to the side: the outlier part's own stream, frozen

Result<void> CheckOptions(const OutlierOptions& options) {
  if (options.dim < 4 || options.dim > 65536) {
    return Fail(ErrorCode::kInvalidArgument, "dim must be 4 to 65536, got ", options.dim);
  }
  if (options.bits < 1 || options.bits > 7) {
    return Fail(ErrorCode::kInvalidArgument, "bits of the regular channels must be 1 to 7, got ",
                options.bits);
  }
  if (options.stream.side >= kOutlierSide) {
    return Fail(ErrorCode::kInvalidArgument, "stream side must be below 128, got ",
                options.stream.side);
  }
  if (!(options.unit_norm_tolerance >= 0.0f)) {
    return Fail(ErrorCode::kInvalidArgument, "unit_norm_tolerance must not be negative, got ",
                static_cast<double>(options.unit_norm_tolerance));
  }
  const std::vector<uint32_t>& channels = options.outlier_channels;
  if (channels.size() < 2 || channels.size() > options.dim - 2) {
    return Fail(ErrorCode::kInvalidArgument, "outlier_channels must be 2 to ", options.dim - 2,
                " of dim ", options.dim, ", got ", channels.size());
  }
  for (size_t i = 0; i < channels.size(); ++i) {
    if (channels[i] >= options.dim) {
      return Fail(ErrorCode::kInvalidArgument, "outlier_channels[", i, "] is ", channels[i],
                  ", not below dim ", options.dim);
    }
    if (i > 0 && channels[i] <= channels[i - 1]) {
      return Fail(ErrorCode::kInvalidArgument, "outlier_channels must ascend strictly, but [", i,
                  "] is ", channels[i], " after ", channels[i - 1]);
    }
  }
  return {};
}

std::vector<uint32_t> OtherChannels(size_t dim, std::span<const uint32_t> channels) {
  std::vector<uint32_t> all(dim);
  std::iota(all.begin(), all.end(), 0u);
  std::vector<uint32_t> others;
  others.reserve(dim - channels.size());
  std::ranges::set_difference(all, channels, std::back_inserter(others));
  return others;
}

MseOptions Part(const OutlierOptions& options, bool outliers) {
  MseOptions mse;
  mse.dim =
      outliers ? options.outlier_channels.size() : options.dim - options.outlier_channels.size();
  mse.bits = outliers ? options.bits + 1 : options.bits;
  mse.scale = options.scale;
  mse.scale_search = options.scale_search;
  mse.scale_type = options.scale_type;
  mse.rotation = options.rotation;
  mse.rotation_rounds = options.rotation_rounds;
  mse.density = options.density;
  mse.seed = options.seed;
  mse.stream = options.stream;
  if (outliers) mse.stream.side += kOutlierSide;
  mse.backend = options.backend;
  return mse;
}

uint64_t SplitFingerprint(const OutlierOptions& options, const MseQuantizer& outliers,
                          const MseQuantizer& regular) {
  Fingerprint fingerprint;
  fingerprint.Add('O').Add(outliers.fingerprint()).Add(regular.fingerprint());
  for (const uint32_t channel : options.outlier_channels) fingerprint.Add(channel);
  return fingerprint.value();
}

// The given channels of all rows, [n × channels].
std::vector<float> GatherChannels(const RowsView& rows, std::span<const uint32_t> channels,
                                  const ParallelFor& parallel_for) {
  std::vector<float> gathered(rows.rows() * channels.size());
  ForRowSpans(parallel_for, rows.rows(), kTaskRows, [&](size_t first, size_t count) {
    float* out = gathered.data() + first * channels.size();
    for (size_t r = first; r < first + count; ++r) {
      for (const uint32_t channel : channels) *out++ = ElementAt(rows, r, channel);
    }
  });
  return gathered;
}

// What the parts cannot tell: columns of the whole row, and its norm.
Result<void> CheckRowsWhole(std::string_view name, const RowsView& rows,
                            const OutlierOptions& options, const ParallelFor& parallel_for) {
  FirstFailure failure;
  ForRowSpans(parallel_for, rows.rows(), kTaskRows, [&](size_t first, size_t count) {
    std::vector<float> row(rows.cols());
    for (size_t r = first; r < first + count; ++r) {
      ReadRow(rows, r, row.data());
      const double norm2 = kernels::NormSquared(FastestKernels(), row.data(), row.size());
      if (!std::isfinite(norm2)) return failure.Report(first, NonFinite(name, rows, r).error());
      const double norm = std::sqrt(norm2);
      if (options.require_unit_norm &&
          !(std::fabs(norm - 1.0) <= static_cast<double>(options.unit_norm_tolerance))) {
        auto wrong = Fail(ErrorCode::kNotUnitNorm, name, "[", r, "] has norm ", norm,
                          ", not 1 within ", static_cast<double>(options.unit_norm_tolerance));
        return failure.Report(first, std::move(wrong).error());
      }
    }
  });
  return std::move(failure).Take();
}

// A part's error, told as what it is.
template <class T>
Result<T> InPart(std::string_view part, Result<T> done) {
  if (!done) done.error().message = std::string(part) + " channels: " + done.error().message;
  return done;
}

}  // namespace

Result<std::vector<uint32_t>> ChooseOutlierChannels(RowsView rows, size_t count) {
  if (rows.rows() == 0) {
    return Fail(ErrorCode::kInvalidArgument, "no rows to choose outlier channels from");
  }
  if (count > rows.cols()) {
    return Fail(ErrorCode::kInvalidArgument, "cannot choose ", count, " outlier channels of ",
                rows.cols());
  }
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), rows.cols()));
  std::vector<double> squares(rows.cols());
  std::vector<float> row(rows.cols());
  for (size_t r = 0; r < rows.rows(); ++r) {
    ReadRow(rows, r, row.data());
    for (size_t j = 0; j < row.size(); ++j) {
      if (!std::isfinite(row[j])) return NonFinite("rows", rows, r);
      squares[j] += static_cast<double>(row[j]) * static_cast<double>(row[j]);
    }
  }
  std::vector<uint32_t> channels(rows.cols());
  std::iota(channels.begin(), channels.end(), 0u);
  std::ranges::sort(channels, [&](uint32_t a, uint32_t b) {
    return squares[a] != squares[b] ? squares[a] > squares[b] : a < b;
  });
  channels.resize(count);
  std::ranges::sort(channels);
  return channels;
}

Result<void> OutlierRows::Append(const OutlierRows& other) {
  if (other.quantizer_fingerprint_ != quantizer_fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows to append were written by another quantizer (other dim, bits, outlier "
                "channels, seed, rotation or stream)");
  }
  TQ_CHECK(outliers_.Append(other.outliers_));  // refuses other scale types, which parts share
  return regular_.Append(other.regular_);
}

Result<void> OutlierRows::RemoveFront(size_t n) {
  TQ_CHECK(outliers_.RemoveFront(n));
  return regular_.RemoveFront(n);
}

Result<void> OutlierRows::Truncate(size_t n) {
  TQ_CHECK(outliers_.Truncate(n));
  return regular_.Truncate(n);
}

OutlierQuantizer::OutlierQuantizer(const OutlierOptions& options,
                                   std::vector<uint32_t> regular_channels, MseQuantizer outliers,
                                   MseQuantizer regular)
    : options_(options),
      regular_channels_(std::move(regular_channels)),
      outliers_(std::move(outliers)),
      regular_(std::move(regular)),
      fingerprint_(SplitFingerprint(options_, outliers_, regular_)) {}

Result<OutlierQuantizer> OutlierQuantizer::Create(const OutlierOptions& options) {
  TQ_CHECK(CheckOptions(options));
  TQ_TRY(MseQuantizer outliers, MseQuantizer::Create(Part(options, /*outliers=*/true)));
  TQ_TRY(MseQuantizer regular, MseQuantizer::Create(Part(options, /*outliers=*/false)));
  return OutlierQuantizer(options, OtherChannels(options.dim, options.outlier_channels),
                          std::move(outliers), std::move(regular));
}

OutlierRows OutlierQuantizer::MakeRows(Tiling tiling) const {
  return OutlierRows(fingerprint_, outliers_.MakeRows(tiling), regular_.MakeRows(tiling));
}

Result<void> OutlierQuantizer::CheckRows(const OutlierRows& rows) const {
  if (rows.quantizer_fingerprint_ == fingerprint_) return {};
  return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim(), ", ", rows.regular_.bits(),
              " bits) were written by another quantizer than this one (dim ", options_.dim, ", ",
              options_.bits, " bits): their outlier channels, seed, stream or rotation differ");
}

Result<OutlierRows> OutlierQuantizer::Encode(RowsView rows, Tiling tiling,
                                             const ParallelFor& parallel_for) const {
  OutlierRows encoded = MakeRows(tiling);
  TQ_CHECK(Append(rows, encoded, parallel_for));
  return encoded;
}

Result<void> OutlierQuantizer::Append(RowsView rows, OutlierRows& into,
                                      const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(into));
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), options_.dim));
  TQ_CHECK(CheckRowsWhole("rows", rows, options_, parallel_for));
  const size_t old_size = into.size();
  const auto append_part = [&](const MseQuantizer& part, std::span<const uint32_t> channels,
                               MseRows& part_rows) {
    const std::vector<float> gathered = GatherChannels(rows, channels, parallel_for);
    const MatrixView<const float> view = {gathered.data(), rows.rows(), channels.size()};
    return part.Append(view, part_rows, parallel_for);
  };
  TQ_CHECK(InPart("outlier", append_part(outliers_, options_.outlier_channels, into.outliers_)));
  auto done = InPart("regular", append_part(regular_, regular_channels_, into.regular_));
  if (!done) TQ_CHECK(into.outliers_.Truncate(old_size));
  return done;
}

Result<OutlierRows> OutlierQuantizer::Import(std::span<const uint8_t> outlier_packed,
                                             std::span<const float> outlier_scales,
                                             std::span<const uint8_t> regular_packed,
                                             std::span<const float> regular_scales,
                                             Tiling tiling) const {
  if (outlier_scales.size() != regular_scales.size()) {
    return Fail(ErrorCode::kDimensionMismatch, "there are ", outlier_scales.size(),
                " outlier scales and ", regular_scales.size(), " regular scales");
  }
  TQ_TRY(MseRows outliers,
         InPart("outlier", outliers_.ImportCanonical(outlier_packed, outlier_scales, tiling)));
  TQ_TRY(MseRows regular,
         InPart("regular", regular_.ImportCanonical(regular_packed, regular_scales, tiling)));
  return OutlierRows(fingerprint_, std::move(outliers), std::move(regular));
}

Result<void> OutlierQuantizer::Export(const OutlierRows& rows, std::span<uint8_t> outlier_packed,
                                      std::span<float> outlier_scales,
                                      std::span<uint8_t> regular_packed,
                                      std::span<float> regular_scales) const {
  TQ_CHECK(CheckRows(rows));
  const size_t size = rows.size();
  const size_t outlier_bytes = size * rows.outliers_.CanonicalRowBytes();
  const size_t regular_bytes = size * rows.regular_.CanonicalRowBytes();
  if (outlier_packed.size() != outlier_bytes || regular_packed.size() != regular_bytes ||
      outlier_scales.size() != size || regular_scales.size() != size) {
    return Fail(ErrorCode::kDimensionMismatch, size, " rows need ", outlier_bytes, " and ",
                regular_bytes, " bytes and ", size, " scales each, got ", outlier_packed.size(),
                " and ", regular_packed.size(), " bytes and ", outlier_scales.size(), " and ",
                regular_scales.size(), " scales");
  }
  for (size_t r = 0; r < size; ++r) {
    outlier_scales[r] = rows.outliers_.ScaleOf(r);
    regular_scales[r] = rows.regular_.ScaleOf(r);
  }
  TQ_CHECK(rows.outliers_.ExportCanonical(outlier_packed));
  return rows.regular_.ExportCanonical(regular_packed);
}

Result<void> OutlierQuantizer::Decode(const OutlierRows& encoded, MatrixView<float> out,
                                      const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckDecoded(out, encoded.size(), options_.dim));
  const auto decode_part = [&](const MseQuantizer& part, std::span<const uint32_t> channels,
                               const MseRows& part_rows) -> Result<void> {
    std::vector<float> decoded(part_rows.size() * channels.size());
    TQ_CHECK(
        part.Decode(part_rows, {decoded.data(), part_rows.size(), channels.size()}, parallel_for));
    for (size_t r = 0; r < part_rows.size(); ++r) {
      const float* row = decoded.data() + r * channels.size();
      for (size_t i = 0; i < channels.size(); ++i) out.Row(r)[channels[i]] = row[i];
    }
    return {};
  };
  TQ_CHECK(decode_part(outliers_, options_.outlier_channels, encoded.outliers_));
  return decode_part(regular_, regular_channels_, encoded.regular_);
}

Result<OutlierQueries> OutlierQuantizer::Prepare(MatrixView<const float> queries,
                                                 const PrepareOptions& prepare_options) const {
  TQ_CHECK(CheckShape("queries", queries.cols, queries.stride, queries.rows, options_.dim));
  OutlierOptions any_norm;
  any_norm.require_unit_norm = false;
  TQ_CHECK(CheckRowsWhole("queries", queries, any_norm, {}));
  const auto prepare_part = [&](const MseQuantizer& part, std::span<const uint32_t> channels) {
    const std::vector<float> gathered = GatherChannels(queries, channels, {});
    return part.Prepare({gathered.data(), queries.rows, channels.size()}, prepare_options);
  };
  TQ_TRY(MseQueries outliers, prepare_part(outliers_, options_.outlier_channels));
  TQ_TRY(MseQueries regular, prepare_part(regular_, regular_channels_));
  return OutlierQueries(fingerprint_, std::move(outliers), std::move(regular));
}

Result<void> OutlierQuantizer::Score(const OutlierQueries& queries, const OutlierRows& encoded,
                                     MatrixView<float> scores,
                                     const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  if (queries.quantizer_fingerprint_ != fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument, "the queries were prepared by another quantizer");
  }
  TQ_CHECK(CheckScores(scores, queries.size(), encoded.size()));
  std::vector<float> outlier_scores(queries.size() * encoded.size());
  const MatrixView<float> outliers = {outlier_scores.data(), queries.size(), encoded.size()};
  TQ_CHECK(outliers_.Score(queries.outliers_, encoded.outliers_, outliers, parallel_for));
  TQ_CHECK(regular_.Score(queries.regular_, encoded.regular_, scores, parallel_for));
  for (size_t q = 0; q < queries.size(); ++q) {
    for (size_t r = 0; r < encoded.size(); ++r) scores.Row(q)[r] += outliers.Row(q)[r];
  }
  return {};
}

}  // namespace turboquant
