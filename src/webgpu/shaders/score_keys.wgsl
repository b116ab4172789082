// Scores of packed rows, one thread a row, for four queries at once. Integer sums are exact, so a
// score is the CPU's: (float(sum) · factor) · scale.

struct Parameters {
  rows: u32,     // of the segment
  queries: u32,  // of this run
  first_query: u32,  // of the chunk, a multiple of 4
  stride: u32,       // of scores
  first_score: u32,  // of the segment in a row of scores
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> codebook: array<i32>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> digits: array<vec4i>;  // [tile × 4 kQuads]
@group(0) @binding(5) var<storage, read> factors: array<f32>;
@group(0) @binding(6) var<storage, read_write> scores: array<f32>;  // [queries × stride]

// Levels beyond int8 are 128 · high + low, |low| <= 64; otherwise high is 0.
var<workgroup> low_levels: array<i32, kCodes>;
var<workgroup> high_levels: array<i32, kCodes>;

// Coordinates whose sums fit 32 bits: 127 · 8127 · 2048 < 2^31.
const kSpanQuads = 512u;

@compute @workgroup_size(kThreads)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  for (var i = lane; i < kCodes; i += kThreads) {
    let level = codebook[i];
    var low = level;
    if (kWideLevels) {
      low = ((level + 64) & 127) - 64;
    }
    low_levels[i] = low;
    high_levels[i] = (level - low) / 128;
  }
  workgroupBarrier();
  let row = id.x;
  if (row >= parameters.rows) {
    return;
  }
  let first = first_word(row);
  let first_digit = (parameters.first_query / 4u + id.y) * 4u * kQuads;
  var sums: array<vec2u, 4>;
  for (var span = 0u; span < kQuads; span += kSpanQuads) {
    var low = vec4i(0);
    var high = vec4i(0);
    for (var quad = span; quad < min(span + kSpanQuads, kQuads); quad++) {
      let codes = quad_codes(first, quad);
      for (var i = 0u; i < 4u; i++) {
        let code = extractBits(codes, 8u * i, 8u);
        let digit = digits[first_digit + 4u * quad + i];
        low += low_levels[code] * digit;
        if (kWideLevels) {
          high += high_levels[code] * digit;
        }
      }
    }
    for (var q = 0u; q < 4u; q++) {
      sums[q] = add_wide(sums[q], widen(low[q]));
      if (kWideLevels) {
        sums[q] = add_wide(sums[q], shift_left_wide(widen(high[q]), 7u));
      }
    }
  }
  for (var q = 0u; q < 4u; q++) {
    let query = 4u * id.y + q;
    if (query < parameters.queries) {
      let score = float_of_wide(sums[q]) * factors[parameters.first_query + query] * scales[row];
      scores[query * parameters.stride + parameters.first_score + row] = score;
    }
  }
}
