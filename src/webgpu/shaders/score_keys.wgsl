// Scores of packed rows, one thread a row, for eight queries at once. Integer sums are exact, so a
// score is the CPU's: (float(sum) · factor) · scale.

struct Parameters {
  rows: u32,     // of the segment
  queries: u32,  // of this run
  first_query: u32,  // of the chunk, a multiple of 4
  stride: u32,       // of scores
  first_score: u32,  // of the segment in a row of scores
  digits: u32,       // 1 or 2
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> codebook: array<i32>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> digits: array<vec4u>;  // [tile × low, high × kQuads]
@group(0) @binding(5) var<storage, read> factors: array<f32>;
@group(0) @binding(6) var<storage, read_write> scores: array<f32>;  // [queries × stride]

// A level as a byte in each of the four places of a word. Levels beyond int8 are 128 · high + low,
// |low| <= 64.
var<workgroup> low_levels: array<u32, 4u * kCodes>;
var<workgroup> high_levels: array<u32, select(1u, 4u * kCodes, kWideLevels)>;

// Quads whose sums fit 32 bits: 127 · 8127 · 2048 < 2^31.
const kSpanQuads = 512u;

// Of two tiles of four queries, over a span.
var<private> low_sums: array<vec4i, 2>;
var<private> high_sums: array<vec4i, 2>;
var<private> first_digits: u32;
var<private> tiles: u32;

fn fill_levels(lane: u32) {
  for (var i = lane; i < 4u * kCodes; i += kThreads) {
    let level = codebook[i % kCodes];
    let low = select(level, ((level + 64) & 127) - 64, kWideLevels);
    let shift = 8u * (i / kCodes);
    low_levels[i] = (bitcast<u32>(low) & 255u) << shift;
    if (kWideLevels) {
      high_levels[i] = (bitcast<u32>((level - low) / 128) & 255u) << shift;
    }
  }
  workgroupBarrier();
}

fn low_levels_of(codes: u32) -> u32 {
  return low_levels[codes & 255u] | low_levels[kCodes + extractBits(codes, 8u, 8u)] |
         low_levels[2u * kCodes + extractBits(codes, 16u, 8u)] | low_levels[3u * kCodes + (codes >> 24u)];
}

fn high_levels_of(codes: u32) -> u32 {
  return high_levels[codes & 255u] | high_levels[kCodes + extractBits(codes, 8u, 8u)] |
         high_levels[2u * kCodes + extractBits(codes, 16u, 8u)] | high_levels[3u * kCodes + (codes >> 24u)];
}

fn dots(levels: u32, digits_of_four: vec4u) -> vec4i {
  return vec4i(dot4I8Packed(levels, digits_of_four.x), dot4I8Packed(levels, digits_of_four.y),
               dot4I8Packed(levels, digits_of_four.z), dot4I8Packed(levels, digits_of_four.w));
}

// <levels, queries> of one quad.
fn quad_sums(levels: u32, tile: u32, quad: u32) -> vec4i {
  let first = first_digits + 2u * tile * kQuads + quad;
  var sums = dots(levels, digits[first]);
  if (parameters.digits == 2u) {
    sums += 128 * dots(levels, digits[first + kQuads]);
  }
  return sums;
}

fn add_quad(codes: u32, quad: u32) {
  let low = low_levels_of(codes);
  low_sums[0] += quad_sums(low, 0u, quad);
  if (tiles == 2u) {
    low_sums[1] += quad_sums(low, 1u, quad);
  }
  if (kWideLevels) {
    let high = high_levels_of(codes);
    high_sums[0] += quad_sums(high, 0u, quad);
    if (tiles == 2u) {
      high_sums[1] += quad_sums(high, 1u, quad);
    }
  }
}

@compute @workgroup_size(kThreads)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  fill_levels(lane);
  let row = id.x;
  if (row >= parameters.rows) {
    return;
  }
  let first = first_word(row);
  first_digits = (parameters.first_query / 4u + 2u * id.y) * 2u * kQuads;
  tiles = select(1u, 2u, 8u * id.y + 4u < parameters.queries);
  var sums: array<vec2u, 8>;
  for (var span = 0u; span < kQuads; span += kSpanQuads) {
    low_sums = array<vec4i, 2>();
    high_sums = array<vec4i, 2>();
    for (var quad = span; quad < min(span + kSpanQuads, kQuads); quad++) {
      add_quad(quad_codes(first, quad), quad);
    }
    for (var q = 0u; q < 8u; q++) {
      sums[q] = add_wide(sums[q], widen(low_sums[q / 4u][q % 4u]));
      if (kWideLevels) {
        sums[q] = add_wide(sums[q], shift_left_wide(widen(high_sums[q / 4u][q % 4u]), 7u));
      }
    }
  }
  for (var q = 0u; q < 4u * tiles; q++) {
    let query = 8u * id.y + q;
    if (query < parameters.queries) {
      let score = float_of_wide(sums[q]) * factors[parameters.first_query + query] * scales[row];
      scores[query * parameters.stride + parameters.first_score + row] = score;
    }
  }
}
