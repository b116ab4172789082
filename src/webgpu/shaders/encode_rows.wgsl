// Rows to packed codes and scales, kRows rows a workgroup.

struct Parameters {
  rows: u32,
  first_row: u32,   // of the batch: what status names
  first_lane: u32,  // of the segment
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> rows: array<u32>;  // float bits [rows × kDim]
@group(0) @binding(2) var<storage, read> masks: array<u32>;
// 2^kBits levels; then threshold t of candidate k at t · kCandidates + k, so that the lanes of a row's
// candidates meet different banks.
@group(0) @binding(3) var<storage, read> codebook: array<i32>;
@group(0) @binding(4) var<storage, read_write> blocks: array<u32>;
@group(0) @binding(5) var<storage, read_write> scales: array<u32>;  // float bits
// The first row that is: not finite, not of norm 1, without a positive inner product, of a scale
// beyond its type.
@group(0) @binding(6) var<storage, read_write> status: array<atomic<u32>, 4>;

// An item is a row's grid coordinates under one candidate. Where items are fewer than lanes, several
// lanes take slices of one.
const kItems = kRows * kCandidates;
const kSlices = max(kThreads / kItems, 1u);

struct Fit {
  grid_level: Real,
  level_level: Real,
  cosine: Real,  // squared, up to the norm of the grid row; 0 where the inner product is not positive
}

var<workgroup> table: array<i32, kTableWords>;  // the codebook, where it is small enough
var<workgroup> partials: array<vec4u, kItems * kSlices>;
var<workgroup> fits: array<Fit, kItems>;
var<workgroup> gains: array<f32, kRows>;
var<workgroup> winners: array<u32, kRows>;

fn table_at(i: u32) -> i32 {
  if (kTableInGroup) {
    return table[i];
  }
  return codebook[i];
}

// The number of thresholds below z.
fn nearest_code(z: i32, candidate: u32) -> u32 {
  let first = kCodes + candidate;
  var code = 0u;
  for (var step = 1u << (kBits - 1u); step > 0u; step /= 2u) {
    code += select(0u, step, z > table_at(first + (code + step - 1u) * kCandidates));
  }
  return code;
}

// Coordinates of an item whose products with levels fit 32 bits together: 32767 · 127 · 512 < 2^31,
// 32767 · 8192 · 8 too.
const kSpan = select(512u, 8u, kWideLevels) * kSlices;

// The sums of an item over every kSlices-th coordinate.
fn slice_sums(item: u32, slice: u32) -> vec4u {
  let first = item / kCandidates * kDim;
  var grid_level = vec2u(0u);
  var level_level = vec2u(0u);
  for (var span = slice; span < kDim; span += kSpan) {
    var grid_sum = 0;
    var level_sum = 0;
    for (var j = span; j < min(span + kSpan, kDim); j += kSlices) {
      let z = bitcast<i32>(cells[place(first + j)]);
      let level = table_at(nearest_code(z, item % kCandidates));
      grid_sum += z * level;
      level_sum += level * level;
    }
    grid_level = add_wide(grid_level, widen(grid_sum));
    level_level = add_wide(level_level, widen(level_sum));
  }
  return vec4u(grid_level, level_level);
}

fn fit_of(item: u32) -> Fit {
  var grid_level = vec2u(0u);
  var level_level = vec2u(0u);
  for (var i = item * kSlices; i < (item + 1u) * kSlices; i++) {
    grid_level = add_wide(grid_level, partials[i].xy);
    level_level = add_wide(level_level, partials[i].zw);
  }
  var fit = Fit(Real(0u, 0), real_of_wide(level_level), Real(0u, 0));
  if (!is_negative(grid_level)) {
    fit.grid_level = real_of_wide(grid_level);
  }
  if (fit.grid_level.m != 0u && fit.level_level.m != 0u) {
    fit.cosine = real_divide(real_multiply(fit.grid_level, fit.grid_level), fit.level_level);
  }
  return fit;
}

// The row's first item of the best cosine: short rows have candidates that are equally good.
fn best_item(row: u32) -> u32 {
  var best = row * kCandidates;
  for (var item = best + 1u; item < (row + 1u) * kCandidates; item++) {
    if (real_clearly_above(fits[item].cosine, fits[best].cosine)) {
      best = item;
    }
  }
  return best;
}

fn scale_of(norm: Real, fit: Fit) -> Real {
  if (norm.m == 0u || kScale == kScaleNorm) {
    return norm;
  }
  if (kScale == kScaleMatched) {
    return real_divide(norm, real_multiply(real_sqrt(fit.level_level), kSigmaStep));
  }
  let inner = real_multiply(fit.grid_level, kInnerStep);
  if (kScale == kScaleUnbiased) {
    return real_divide(norm, inner);
  }
  let centroid_norm2 = real_multiply(fit.level_level, real_multiply(kSigmaStep, kSigmaStep));
  return real_divide(real_multiply(norm, inner), centroid_norm2);
}

// Where the batch's row, `row` of this run, is faulty, says so.
fn store_scale(row: u32, norm: Real, fit: Fit) {
  let batch_row = parameters.first_row + row;
  if (kRequireUnitNorm && (real_above(kSmallestNorm, norm) || real_above(norm, kLargestNorm))) {
    atomicMin(&status[1], batch_row);
  }
  if (kScale != kScaleNorm && norm.m != 0u && fit.grid_level.m == 0u) {
    atomicMin(&status[2], batch_row);
    return;
  }
  var bits = float_of_real(scale_of(norm, fit));
  if (kHalfScales) {
    bits = half_of_float(bits);
  }
  if (bits == 0x7f800000u) {
    atomicMin(&status[3], batch_row);
  }
  scales[parameters.first_lane + row] = bits;
}

// What takes a rotated, prescaled coordinate to the grid.
fn gain_of(norm: Real) -> f32 {
  if (norm.m == 0u) {
    return 0.0;
  }
  let scaled = Real(norm.m, norm.e - prescale_exponent(norm));
  return bitcast<f32>(float_of_real(real_divide(kGridGain, scaled)));
}

fn rotate_to_grid(lane: u32) {
  prescale_cells(lane);
  if (lane < kRows) {
    gains[lane] = gain_of(norms[lane]);
  }
  rotate_rounds(lane, kRounds, 0u);
  for (var c = lane; c < kCells; c += kThreads) {
    let z = i32(round(clamp(cell(c) * gains[c / kDim], -32767.0, 32767.0)));
    cells[place(c)] = bitcast<u32>(z);
  }
  workgroupBarrier();
}

fn fit_candidates(lane: u32) {
  for (var i = lane; i < kItems * kSlices; i += kThreads) {
    partials[i] = slice_sums(i / kSlices, i % kSlices);
  }
  workgroupBarrier();
  for (var item = lane; item < kItems; item += kThreads) {
    fits[item] = fit_of(item);
  }
  workgroupBarrier();
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_row = group.x * kRows;
  let rows_here = min(kRows, parameters.rows - first_row);
  if (kTableInGroup) {
    for (var i = lane; i < kTableWords; i += kThreads) {
      table[i] = codebook[i];
    }
  }
  load_cells(lane, first_row * kDim, rows_here * kDim);
  measure_norms(lane);
  if (lane < rows_here && atomicLoad(&largest_bits[lane]) >= 0x7f800000u) {
    atomicMin(&status[0], parameters.first_row + first_row + lane);
  }
  rotate_to_grid(lane);
  fit_candidates(lane);
  if (lane < kRows) {
    let item = best_item(lane);
    winners[lane] = item % kCandidates;
    if (lane < rows_here) {
      store_scale(first_row + lane, norms[lane], fits[item]);
    }
  }
  workgroupBarrier();
  for (var c = lane; c < kCells; c += kThreads) {
    let row = c / kDim;
    let code = nearest_code(bitcast<i32>(cells[place(c)]), winners[row]);
    cells[place(c)] = select(code, 0u, norms[row].m == 0u);
  }
  workgroupBarrier();
  for (var item = lane; item < kRows * kLines; item += kThreads) {
    let row = item % kRows;
    if (row < rows_here) {
      let first = first_word(parameters.first_lane + first_row + row);
      blocks[first + 16u * (item / kRows)] = packed_word(row, item / kRows);
    }
  }
}
