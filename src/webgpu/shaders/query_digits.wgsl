// Queries rotated and rounded to integers of two 7-bit digits (or one), kRows queries a workgroup: 128 ·
// high + low, |low| <= 64. A word holds four coordinates; four queries stand side by side, so that one
// reader of codes serves them all.

struct Parameters {
  queries: u32,
  digit_max: u32,  // 8127 with two digits, 63 with one
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> rows: array<u32>;  // float bits [queries × kDim]
@group(0) @binding(2) var<storage, read> masks: array<u32>;
@group(0) @binding(3) var<storage, read_write> digits: array<u32>;  // [tile × low, high × kQuads × 4], zeroed
@group(0) @binding(4) var<storage, read_write> factors: array<u32>;  // float bits
@group(0) @binding(5) var<storage, read_write> status: array<atomic<u32>, 4>;

var<workgroup> largest_rotated: array<atomic<u32>, kRows>;
var<workgroup> gains: array<f32, kRows>;

// What an integer sum of levels times digits, times a row's scale, is multiplied by.
fn factor_of(largest: u32, exponent: i32) -> u32 {
  let step = real_divide(real_of_float(largest), real_of_wide(vec2u(parameters.digit_max, 0u)));
  let factor = real_multiply(step, kQueryStep);
  return float_of_real(Real(factor.m, factor.e + exponent));
}

// Takes the largest rotated coordinate to digit_max; 0 where all are.
fn gain_of(largest: u32) -> f32 {
  if (largest == 0u) {
    return 0.0;
  }
  let bound = real_of_wide(vec2u(parameters.digit_max, 0u));
  return bitcast<f32>(min(float_of_real(real_divide(bound, real_of_float(largest))), 0x7f7fffffu));
}

// Low and high digits of a quad of coordinates.
fn digit_words(row: u32, quad: u32) -> vec2u {
  let bound = f32(parameters.digit_max);
  var words = vec2u(0u);
  for (var i = 0u; i < min(4u, kDim - 4u * quad); i++) {
    let x = cell(row * kDim + 4u * quad + i) * gains[row];
    let value = i32(round(clamp(x, -bound, bound)));
    let low = ((value + 64) & 127) - 64;
    let both = vec2u(bitcast<u32>(low), bitcast<u32>((value - low) / 128));
    words |= (both & vec2u(255u)) << vec2u(8u * i);
  }
  return words;
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_query = group.x * kRows;
  let queries_here = min(kRows, parameters.queries - first_query);
  if (lane < kRows) {
    atomicStore(&largest_rotated[lane], 0u);  // lavapipe does not zero it for every workgroup
  }
  load_cells(lane, first_query * kDim, queries_here * kDim);
  measure_norms(lane);
  if (lane < queries_here && atomicLoad(&largest_bits[lane]) >= 0x7f800000u) {
    atomicMin(&status[0], first_query + lane);
  }
  prescale_cells(lane);
  rotate_rounds(lane, kRounds, 0u);
  let own_row = lane / kLanes;
  var own = 0u;
  for (var j = lane % kLanes; j < kDim; j += kLanes) {
    own = max(own, cells[place(own_row * kDim + j)] & 0x7fffffffu);
  }
  atomicMax(&largest_rotated[own_row], own);
  workgroupBarrier();
  if (lane < queries_here) {
    let largest = atomicLoad(&largest_rotated[lane]);
    gains[lane] = gain_of(largest);
    factors[first_query + lane] =
        select(factor_of(largest, prescale_exponent(norms[lane])), 0u, largest == 0u);
  }
  workgroupBarrier();
  for (var item = lane; item < queries_here * kQuads; item += kThreads) {
    let row = item / kQuads;
    let query = first_query + row;
    let words = digit_words(row, item % kQuads);
    let at = (query / 4u * 2u * kQuads + item % kQuads) * 4u + query % 4u;
    digits[at] = words.x;
    digits[at + 4u * kQuads] = words.y;
  }
}
