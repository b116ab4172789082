// Rows to packed codes and scales, one workgroup a row.

struct Parameters {
  rows: u32,
  first_row: u32,   // of the batch: what status names
  first_lane: u32,  // of the segment
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> rows: array<u32>;  // float bits [rows × kDim]
@group(0) @binding(2) var<storage, read> masks: array<u32>;
// 2^kBits levels, then as many thresholds for each candidate.
@group(0) @binding(3) var<storage, read> codebook: array<i32>;
@group(0) @binding(4) var<storage, read_write> blocks: array<u32>;
@group(0) @binding(5) var<storage, read_write> scales: array<u32>;  // float bits
// The first row that is: not finite, not of norm 1, without a positive inner product, of a scale
// beyond its type.
@group(0) @binding(6) var<storage, read_write> status: array<atomic<u32>, 4>;

const kSlices = kThreads / kCandidates;

struct Fit {
  grid_level: Real,
  level_level: Real,
  cosine: Real,  // squared, up to the norm of the grid row; 0 where the inner product is not positive
}

var<workgroup> fits: array<Fit, kCandidates>;
var<workgroup> winner: u32;

// The number of thresholds below z.
fn nearest_code(z: i32, candidate: u32) -> u32 {
  let first = (candidate + 1u) << kBits;
  var code = 0u;
  for (var step = 1u << (kBits - 1u); step > 0u; step /= 2u) {
    code += select(0u, step, z > codebook[first + code + step - 1u]);
  }
  return code;
}

// The sums of one candidate over every kSlices-th coordinate.
fn add_slice(lane: u32) {
  let candidate = lane / kSlices;
  var grid_level = vec2u(0u);
  var level_level = vec2u(0u);
  for (var j = lane % kSlices; j < kDim; j += kSlices) {
    let z = bitcast<i32>(cells[j]);
    let level = codebook[nearest_code(z, candidate)];
    grid_level = add_wide(grid_level, widen(z * level));
    level_level = add_wide(level_level, widen(level * level));
  }
  partials[lane] = vec4u(grid_level, level_level);
}

fn fit_of(candidate: u32) -> Fit {
  var grid_level = vec2u(0u);
  var level_level = vec2u(0u);
  for (var i = candidate * kSlices; i < (candidate + 1u) * kSlices; i++) {
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

// The first candidate of the best cosine: short rows have candidates that are equally good.
fn choose_winner() -> u32 {
  var best = 0u;
  for (var k = 1u; k < kCandidates; k++) {
    if (real_clearly_above(fits[k].cosine, fits[best].cosine)) {
      best = k;
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

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  for (var j = lane; j < kDim; j += kThreads) {
    cells[j] = rows[row * kDim + j];
  }
  let norm = norm_of_cells(lane);
  if (lane == 0u && atomicLoad(&largest_bits) >= 0x7f800000u) {
    atomicMin(&status[0], parameters.first_row + row);
  }
  let exponent = prescale_exponent(norm);
  prescale_cells(lane, exponent);
  rotate_rounds(lane, kRounds, 0u);

  var gain = 0.0;
  if (norm.m != 0u) {
    gain = bitcast<f32>(float_of_real(real_divide(kGridGain, Real(norm.m, norm.e - exponent))));
  }
  for (var j = lane; j < kDim; j += kThreads) {
    cells[j] = bitcast<u32>(i32(round(clamp(cell(j) * gain, -32767.0, 32767.0))));
  }
  workgroupBarrier();
  add_slice(lane);
  workgroupBarrier();
  if (lane < kCandidates) {
    fits[lane] = fit_of(lane);
  }
  workgroupBarrier();
  if (lane == 0u) {
    winner = choose_winner();
    store_scale(row, norm, fits[winner]);
  }
  workgroupBarrier();
  for (var j = lane; j < kDim; j += kThreads) {
    let code = nearest_code(bitcast<i32>(cells[j]), winner);
    cells[j] = select(code, 0u, norm.m == 0u);
  }
  workgroupBarrier();
  let first = first_word(parameters.first_lane + row);
  for (var line = lane; line < kLines; line += kThreads) {
    blocks[first + 16u * line] = packed_word(line);
  }
}
