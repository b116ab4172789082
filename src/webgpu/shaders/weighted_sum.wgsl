// Weighted sums of packed values in the rotated domain, by spans of kSpanRows rows: one workgroup a
// span and query, whose threads take the quads of coordinates.

struct Parameters {
  rows: u32,         // of the segment
  tokens: u32,       // of a query's weights
  first_token: u32,  // of the segment
  first_span: u32,   // of the segment
  queries: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> codebook: array<i32>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<vec4f>;  // [spans × queries × kQuads]

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * kSpanRows;
  let end = min(first + kSpanRows, parameters.rows);
  let first_weight = group.y * parameters.tokens + parameters.first_token;
  let first_sum = ((parameters.first_span + group.x) * parameters.queries + group.y) * kQuads;
  for (var quad = lane; quad < kQuads; quad += kThreads) {
    var sum = vec4f(0.0);
    for (var row = first; row < end; row++) {
      let codes = quad_codes(first_word(row), quad);
      let weight = weights[first_weight + row] * scales[row];
      sum += weight * vec4f(f32(codebook[codes & 255u]), f32(codebook[extractBits(codes, 8u, 8u)]),
                            f32(codebook[extractBits(codes, 16u, 8u)]), f32(codebook[codes >> 24u]));
    }
    sums[first_sum + quad] = sum;
  }
}
