#include "turboquant/polar_quantizer.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "src/base/checked.h"
#include "src/base/failure.h"
#include "src/base/try.h"
#include "src/quantizers/bit_stream.h"
#include "src/quantizers/direction.h"
#include "src/quantizers/fingerprint.h"
#include "src/quantizers/run_tasks.h"
#include "src/quantizers/stored_numbers.h"

namespace turboquant {

// Unit vectors at a level's angles and boundaries: encoding takes no arc tangent.
struct PolarQuantizer::LevelTable {
  struct Direction {
    double cosine;
    double sine;
  };

  LevelTable(const PolarLevel& level, bool full_circle) : bits(level.bits) {
    for (const double angle : level.angles) angles.push_back({std::cos(angle), std::sin(angle)});
    // A full circle is searched by halves: the boundaries below π serve both.
    const size_t searched = full_circle ? level.angles.size() / 2 - 1 : level.boundaries.size();
    for (size_t i = 0; i < searched; ++i) {
      boundaries.push_back({std::cos(level.boundaries[i]), std::sin(level.boundaries[i])});
    }
    half_circle_codes = full_circle ? static_cast<unsigned>(level.angles.size() / 2) : 0;
  }

  // Code of the angle of (x, y); of two cells at a boundary the lower. 0 for (0, 0).
  unsigned NearestCode(double x, double y) const {
    unsigned code = 0;
    if (half_circle_codes != 0 && (y < 0.0 || (y == 0.0 && x < 0.0))) {
      code = half_circle_codes;
      x = -x;
      y = -y;
    }
    // Angles and boundaries lie within [0, π], where a positive cross product means beyond.
    const auto at = std::ranges::partition_point(
        boundaries, [&](const Direction& b) { return y * b.cosine - x * b.sine > 0.0; });
    return code + static_cast<unsigned>(at - boundaries.begin());
  }

  int bits;
  unsigned half_circle_codes;
  std::vector<Direction> angles;
  std::vector<Direction> boundaries;
};

namespace {

constexpr size_t kTaskRows = 64;
constexpr uint32_t kPolarStage = 2;
constexpr size_t kBlockLevels = 4;

// kInvalidArgument naming the option; otherwise the options with level_bits filled in.
Result<PolarOptions> CheckOptions(PolarOptions options) {
  if (options.dim < 2 || options.dim > 65536) {
    return Fail(ErrorCode::kInvalidArgument, "dim must be 2 to 65536, got ", options.dim);
  }
  if (options.form != PolarForm::kBlocks && options.form != PolarForm::kFull) {
    return Fail(ErrorCode::kInvalidArgument, "polar form ", static_cast<int>(options.form),
                " is neither kBlocks nor kFull");
  }
  const bool full = options.form == PolarForm::kFull;
  if (full && !std::has_single_bit(options.dim)) {
    return Fail(ErrorCode::kInvalidArgument,
                "PolarForm::kFull needs a dim that is a power of two, got ", options.dim);
  }
  if (!full && options.dim % 16 != 0) {
    return Fail(ErrorCode::kInvalidArgument,
                "PolarForm::kBlocks needs a dim that is a multiple of 16, got ", options.dim);
  }
  const size_t levels = full ? static_cast<size_t>(std::countr_zero(options.dim)) : kBlockLevels;
  if (options.level_bits.empty()) {
    options.level_bits.assign(levels, 2);
    options.level_bits[0] = 4;
  }
  if (options.level_bits.size() != levels) {
    return Fail(ErrorCode::kInvalidArgument, "level_bits must name ", levels, " levels, got ",
                options.level_bits.size());
  }
  return options;
}

uint64_t PolarFingerprint(const PolarOptions& options) {
  Fingerprint fingerprint;
  fingerprint.Add('R').Add(options.dim).Add(options.form).Add(options.rotation);
  fingerprint.Add(options.rotation == RotationKind::kHadamard ? options.rotation_rounds : 0);
  fingerprint.Add(options.seed);
  fingerprint.Add(options.stream.layer).Add(options.stream.head).Add(options.stream.side);
  for (const int bits : options.level_bits) fingerprint.Add(bits);
  return fingerprint.value();
}

size_t BitsPerRow(const PolarOptions& options) {
  size_t bits = 0;
  for (size_t level = 0; level < options.level_bits.size(); ++level) {
    bits += (options.dim >> (level + 1)) * static_cast<size_t>(options.level_bits[level]);
  }
  return bits;
}

}  // namespace

Result<PolarQuantizer> PolarQuantizer::Create(const PolarOptions& options) {
  PolarQuantizer quantizer;
  TQ_TRY(quantizer.options_, CheckOptions(options));
  const PolarOptions& checked = quantizer.options_;
  auto tables = std::make_shared<std::vector<LevelTable>>();
  for (const int bits : checked.level_bits) {
    TQ_TRY(PolarLevel level,
           OptimalPolarLevel(static_cast<int>(quantizer.levels_.size()) + 1, bits));
    tables->emplace_back(level, /*full_circle=*/quantizer.levels_.empty());
    quantizer.levels_.push_back(std::move(level));
  }
  TQ_TRY(Rotation rotation,
         Rotation::Create({checked.dim, checked.rotation, checked.rotation_rounds, checked.seed,
                           checked.stream, kPolarStage}));
  quantizer.rotation_ = std::make_shared<const Rotation>(std::move(rotation));
  quantizer.tables_ = std::move(tables);
  quantizer.radii_per_row_ = checked.dim >> checked.level_bits.size();
  quantizer.row_bytes_ = CeilDivide(BitsPerRow(checked), 8);
  quantizer.fingerprint_ = PolarFingerprint(checked);
  return quantizer;
}

PolarRows PolarQuantizer::MakeRows() const {
  PolarRows rows;
  rows.dim_ = options_.dim;
  rows.row_bytes_ = row_bytes_;
  rows.radii_per_row_ = radii_per_row_;
  rows.radius_type_ = options_.radius_type;
  rows.quantizer_fingerprint_ = fingerprint_;
  return rows;
}

Result<void> PolarQuantizer::CheckRows(const PolarRows& rows) const {
  if (rows.quantizer_fingerprint_ != fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument, "the rows (dim ", rows.dim_,
                ") were written by another quantizer than this one (dim ", options_.dim,
                "): their form, level_bits, seed, stream or rotation differ");
  }
  if (rows.radius_type_ != options_.radius_type) {
    return Fail(ErrorCode::kInvalidArgument,
                "the rows hold radii of another type than this quantizer's");
  }
  return {};
}

Result<PolarRows> PolarQuantizer::Encode(RowsView rows, const ParallelFor& parallel_for) const {
  PolarRows encoded = MakeRows();
  TQ_CHECK(Append(rows, encoded, parallel_for));
  return encoded;
}

Result<void> PolarQuantizer::Append(RowsView rows, PolarRows& into,
                                    const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(into));
  TQ_CHECK(CheckShape("rows", rows.cols(), rows.stride(), rows.rows(), options_.dim));
  const size_t old_size = into.size_;
  const size_t new_size = old_size + rows.rows();
  into.packed_.resize(new_size * row_bytes_);
  WithNumbers(into.radius_type_, into.radii_f16_, into.radii_f32_,
              [&](auto& radii) { radii.resize(new_size * radii_per_row_); });
  into.size_ = new_size;
  FirstFailure failure;
  ForRowSpans(parallel_for, rows.rows(), kTaskRows, [&](size_t first, size_t count) {
    std::vector<float> direction(options_.dim);
    std::vector<double> radii(options_.dim);
    for (size_t r = first; r < first + count; ++r) {
      if (auto done = EncodeRow(rows, r, direction, radii, old_size + r, into); !done) {
        failure.Report(first, std::move(done).error());
        return;
      }
    }
  });
  Result<void> result = std::move(failure).Take();
  if (!result) (void)into.Truncate(old_size);
  return result;
}

Result<void> PolarQuantizer::EncodeRow(const RowsView& rows, size_t r, std::span<float> direction,
                                       std::span<double> radii, size_t at, PolarRows& into) const {
  TQ_TRY(const double norm, ReadDirection("rows", rows, r, direction));
  const MatrixView<float> view = {direction.data(), 1, direction.size()};
  TQ_CHECK(rotation_->Apply(view, view));
  std::ranges::copy(direction, radii.begin());
  BitWriter codes(std::span(into.packed_).subspan(at * row_bytes_, row_bytes_));
  size_t pairs = options_.dim;
  for (const LevelTable& table : *tables_) {
    pairs /= 2;
    for (size_t i = 0; i < pairs; ++i) {
      const double x = radii[2 * i];
      const double y = radii[2 * i + 1];
      codes.Write(table.NearestCode(x, y), table.bits);
      radii[i] = std::sqrt(x * x + y * y);
    }
  }
  return WithNumbers(into.radius_type_, into.radii_f16_, into.radii_f32_,
                     [&](auto& stored) -> Result<void> {
                       for (size_t block = 0; block < radii_per_row_; ++block) {
                         TQ_CHECK(StoreNumber("rows", r, "radius", norm * radii[block],
                                              stored[at * radii_per_row_ + block]));
                       }
                       return {};
                     });
}

Result<PolarRows> PolarQuantizer::Import(std::span<const uint8_t> packed,
                                         std::span<const float> radii) const {
  PolarRows rows = MakeRows();
  if (packed.size() % row_bytes_ != 0 || radii.size() % radii_per_row_ != 0 ||
      packed.size() / row_bytes_ != radii.size() / radii_per_row_) {
    return Fail(ErrorCode::kDimensionMismatch, "packed has ", packed.size(), " bytes and radii ",
                radii.size(), " elements, a row has ", row_bytes_, " and ", radii_per_row_);
  }
  rows.packed_.assign(packed.begin(), packed.end());
  rows.size_ = packed.size() / row_bytes_;
  const size_t bits_in_last = BitsPerRow(options_) % 8;
  for (size_t r = 0; r < rows.size_; ++r) {
    if (bits_in_last != 0 && packed[(r + 1) * row_bytes_ - 1] >> bits_in_last != 0) {
      return Fail(ErrorCode::kCorruptData, "codes[", r, "] has padding bits that are not zero");
    }
  }
  const auto import_radii = [&](auto& stored) -> Result<void> {
    stored.resize(radii.size());
    for (size_t i = 0; i < radii.size(); ++i) {
      auto done = ImportNumber("radii", i, radii[i], stored[i]);
      if (done) continue;
      done.error().message.append(" (row ").append(std::to_string(i / radii_per_row_)).append(")");
      return done;
    }
    return {};
  };
  TQ_CHECK(WithNumbers(rows.radius_type_, rows.radii_f16_, rows.radii_f32_, import_radii));
  return rows;
}

Result<void> PolarQuantizer::Export(const PolarRows& rows, std::span<uint8_t> packed,
                                    std::span<float> radii) const {
  TQ_CHECK(CheckRows(rows));
  if (packed.size() != rows.packed_.size() || radii.size() != rows.size_ * radii_per_row_) {
    return Fail(ErrorCode::kDimensionMismatch, "packed and radii have ", packed.size(), " and ",
                radii.size(), " elements, ", rows.size_, " rows need ", rows.packed_.size(),
                " and ", rows.size_ * radii_per_row_);
  }
  std::ranges::copy(rows.packed_, packed.begin());
  for (size_t i = 0; i < radii.size(); ++i) {
    radii[i] = rows.RadiusOf(i / radii_per_row_, i % radii_per_row_);
  }
  return {};
}

// Coordinates relative to the row's largest radius, which is returned: no radius overflows in the
// inverse rotation.
double PolarQuantizer::DecodeRotated(const PolarRows& encoded, size_t r,
                                     std::span<double> coordinates) const {
  double largest = 0.0;
  for (size_t block = 0; block < radii_per_row_; ++block) {
    coordinates[block] = static_cast<double>(encoded.RadiusOf(r, block));
    largest = std::max(largest, coordinates[block]);
  }
  if (largest == 0.0) {
    std::ranges::fill(coordinates, 0.0);
    return 0.0;
  }
  for (size_t block = 0; block < radii_per_row_; ++block) coordinates[block] /= largest;

  // Codes lie level 1 first, and are needed last level first.
  BitReader reader(encoded.packed().subspan(r * row_bytes_, row_bytes_));
  std::vector<uint8_t> codes(options_.dim);
  size_t at = 0;
  for (size_t level = 0; level < tables_->size(); ++level) {
    for (size_t i = 0; i < options_.dim >> (level + 1); ++i) {
      codes[at++] = static_cast<uint8_t>(reader.Read((*tables_)[level].bits));
    }
  }
  size_t pairs = radii_per_row_;
  for (size_t level = tables_->size(); level-- > 0; pairs *= 2) {
    at -= pairs;
    for (size_t i = pairs; i-- > 0;) {
      const LevelTable::Direction& angle = (*tables_)[level].angles[codes[at + i]];
      const double radius = coordinates[i];
      coordinates[2 * i] = radius * angle.cosine;
      coordinates[2 * i + 1] = radius * angle.sine;
    }
  }
  return largest;
}

Result<void> PolarQuantizer::Decode(const PolarRows& encoded, MatrixView<float> out,
                                    const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  TQ_CHECK(CheckDecoded(out, encoded.size_, options_.dim));
  ForRowSpans(parallel_for, encoded.size_, kTaskRows, [&](size_t first, size_t count) {
    const MatrixView<float> decoded = out.Slice(first, count);
    std::vector<double> coordinates(options_.dim);
    std::vector<double> largest(count);
    for (size_t r = 0; r < count; ++r) {
      largest[r] = DecodeRotated(encoded, first + r, coordinates);
      std::ranges::transform(coordinates, decoded.Row(r),
                             [](double x) { return static_cast<float>(x); });
    }
    (void)rotation_->ApplyInverse(decoded, decoded);  // the shapes agree
    for (size_t r = 0; r < count; ++r) {
      for (float& x : decoded.RowSpan(r))
        x = static_cast<float>(largest[r] * static_cast<double>(x));
    }
  });
  return {};
}

Result<PolarQueries> PolarQuantizer::Prepare(MatrixView<const float> queries) const {
  TQ_CHECK(CheckShape("queries", queries.cols, queries.stride, queries.rows, options_.dim));
  PolarQueries prepared;
  prepared.size_ = queries.rows;
  prepared.dim_ = options_.dim;
  prepared.quantizer_fingerprint_ = fingerprint_;
  prepared.rotated_.resize(queries.rows * options_.dim);
  prepared.norms_.resize(queries.rows);
  const MatrixView<float> view = {prepared.rotated_.data(), queries.rows, options_.dim};
  for (size_t q = 0; q < queries.rows; ++q) {
    TQ_TRY(prepared.norms_[q], ReadDirection("queries", queries, q, view.RowSpan(q)));
  }
  TQ_CHECK(rotation_->Apply(view, view));
  return prepared;
}

Result<void> PolarQuantizer::Score(const PolarQueries& queries, const PolarRows& encoded,
                                   MatrixView<float> scores,
                                   const ParallelFor& parallel_for) const {
  TQ_CHECK(CheckRows(encoded));
  if (queries.quantizer_fingerprint_ != fingerprint_) {
    return Fail(ErrorCode::kInvalidArgument, "the queries were prepared by another quantizer");
  }
  TQ_CHECK(CheckScores(scores, queries.size_, encoded.size_));
  const size_t dim = options_.dim;
  ForRowSpans(parallel_for, encoded.size_, kTaskRows, [&](size_t first, size_t count) {
    std::vector<double> coordinates(dim);
    for (size_t r = first; r < first + count; ++r) {
      const double largest = DecodeRotated(encoded, r, coordinates);
      for (size_t q = 0; q < queries.size_; ++q) {
        const float* rotated = queries.rotated_.data() + q * dim;
        double sum = 0.0;
        for (size_t j = 0; j < dim; ++j) sum += static_cast<double>(rotated[j]) * coordinates[j];
        scores.Row(q)[r] = static_cast<float>(queries.norms_[q] * largest * sum);
      }
    }
  });
  return {};
}

}  // namespace turboquant
