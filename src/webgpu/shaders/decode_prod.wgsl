// Prod's rows to floats: scale · Πᵀ (centroids + constant · residual norm · Sᵀ signs), one workgroup a
// row.

struct Parameters {
  rows: u32,
  first_lane: u32,
  norms_at: u32,  // in scales: behind them stand the residual norms
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> masks: array<u32>;
@group(0) @binding(2) var<storage, read> codebook: array<i32>;
@group(0) @binding(3) var<storage, read> blocks: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<f32>;
@group(0) @binding(5) var<storage, read> signs: array<u32>;
@group(0) @binding(6) var<storage, read_write> decoded: array<u32>;  // float bits [rows × kDim]

var<workgroup> cells: array<u32, kDim>;
var<private> row: u32;

fn sign_of(i: u32) -> f32 {
  let word = signs[(row / 16u * kSignWords + i / 32u) * 16u + row % 16u];
  return select(1.0, -1.0, extractBits(word, i % 32u, 1u) != 0u);
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  row = parameters.first_lane + group.x;
  let first = first_word(row);
  let weight = scales[parameters.norms_at + row] * kEstimator;
  unproject_signs(lane);
  for (var j = lane; j < kDim; j += kThreads) {
    let code = extractBits(quad_codes(first, j / 4u), 8u * (j % 4u), 8u);
    cells[j] = bitcast<u32>(cell(j) * weight + f32(codebook[code]) * kCentroidStep);
  }
  rotate_back_rounds(lane, kRounds, 0u);
  for (var j = lane; j < kDim; j += kThreads) {
    decoded[group.x * kDim + j] = bitcast<u32>(cell(j) * kRotationFactor * scales[row]);
  }
}
