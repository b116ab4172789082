// Prod's scores, one thread a row, for four queries at once: |query| · scale · (<rotated, centroids>
// + residual norm · <projections, signs>), in floats.

struct Parameters {
  rows: u32,         // of the segment
  queries: u32,      // of this run
  first_query: u32,  // of the chunk, a multiple of 4
  norms_at: u32,     // in scales: behind them stand the residual norms
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> codebook: array<i32>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> signs: array<u32>;
@group(0) @binding(5) var<storage, read> rotated: array<vec4f>;
@group(0) @binding(6) var<storage, read> projections: array<vec4f>;
@group(0) @binding(7) var<storage, read> factors: array<f32>;
@group(0) @binding(8) var<storage, read_write> scores: array<f32>;  // [queries × rows]

var<workgroup> centroids: array<f32, kCodes>;

fn centroid_sums(row: u32, tile: u32) -> vec4f {
  let first = first_word(row);
  var sums = vec4f(0.0);
  for (var quad = 0u; quad < kQuads; quad++) {
    let codes = quad_codes(first, quad);
    for (var i = 0u; i < 4u; i++) {
      let centroid = centroids[extractBits(codes, 8u * i, 8u)];
      sums += centroid * rotated[(tile * kQuads + quad) * 4u + i];
    }
  }
  return sums;
}

fn sign_sums(row: u32, tile: u32) -> vec4f {
  var sums = vec4f(0.0);
  for (var w = 0u; w < kSignWords; w++) {
    let word = signs[(row / 16u * kSignWords + w) * 16u + row % 16u];
    for (var i = 0u; i < 32u; i++) {
      let z = projections[(tile * kSignWords + w) * 32u + i];
      sums += select(z, -z, vec4<bool>(extractBits(word, i, 1u) != 0u));
    }
  }
  return sums;
}

@compute @workgroup_size(kThreads)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  for (var i = lane; i < kCodes; i += kThreads) {
    centroids[i] = f32(codebook[i]) * kCentroidStep;
  }
  workgroupBarrier();
  let row = id.x;
  if (row >= parameters.rows) {
    return;
  }
  let tile = parameters.first_query / 4u + id.y;
  let sums = centroid_sums(row, tile) + scales[parameters.norms_at + row] * sign_sums(row, tile);
  for (var q = 0u; q < 4u; q++) {
    let query = 4u * id.y + q;
    if (query < parameters.queries) {
      scores[query * parameters.rows + row] = sums[q] * scales[row] * factors[parameters.first_query + query];
    }
  }
}
