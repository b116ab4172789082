// Queries rotated and rounded to integers of two 7-bit digits (or one), one workgroup a query. Four
// queries stand side by side, so that one reader of codes serves them all.

struct Parameters {
  queries: u32,
  digit_max: u32,  // 8127 with two digits, 63 with one
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> rows: array<u32>;  // float bits [queries × kDim]
@group(0) @binding(2) var<storage, read> masks: array<u32>;
@group(0) @binding(3) var<storage, read_write> digits: array<i32>;  // [tile × 4 kQuads × 4], zeroed
@group(0) @binding(4) var<storage, read_write> factors: array<u32>;  // float bits
@group(0) @binding(5) var<storage, read_write> status: array<atomic<u32>, 4>;

var<workgroup> largest_rotated: atomic<u32>;

// What an integer sum of levels times digits, times a row's scale, is multiplied by.
fn factor_of(largest: u32, exponent: i32) -> u32 {
  let step = real_divide(real_of_float(largest), real_of_wide(vec2u(parameters.digit_max, 0u)));
  let factor = real_multiply(step, kQueryStep);
  return float_of_real(Real(factor.m, factor.e + exponent));
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let query = group.x;
  if (lane == 0u) {
    atomicStore(&largest_rotated, 0u);  // lavapipe does not zero it for every workgroup
  }
  for (var j = lane; j < kDim; j += kThreads) {
    cells[j] = rows[query * kDim + j];
  }
  let norm = norm_of_cells(lane);
  if (lane == 0u && atomicLoad(&largest_bits) >= 0x7f800000u) {
    atomicMin(&status[0], query);
  }
  let exponent = prescale_exponent(norm);
  prescale_cells(lane, exponent);
  rotate_rounds(lane, kRounds, 0u);
  var own = 0u;
  for (var j = lane; j < kDim; j += kThreads) {
    own = max(own, cells[j] & 0x7fffffffu);
  }
  atomicMax(&largest_rotated, own);
  workgroupBarrier();
  let largest = atomicLoad(&largest_rotated);
  var gain = 0.0;
  var factor = 0u;
  if (largest != 0u) {
    let bound = real_of_wide(vec2u(parameters.digit_max, 0u));
    gain = bitcast<f32>(min(float_of_real(real_divide(bound, real_of_float(largest))), 0x7f7fffffu));
    factor = factor_of(largest, exponent);
  }
  let bound = f32(parameters.digit_max);
  for (var j = lane; j < kDim; j += kThreads) {
    let digit = i32(round(clamp(cell(j) * gain, -bound, bound)));
    digits[(query / 4u * 4u * kQuads + j) * 4u + query % 4u] = digit;
  }
  if (lane == 0u) {
    factors[query] = factor;
  }
}
