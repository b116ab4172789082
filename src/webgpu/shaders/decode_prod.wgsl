// Prod's rows to floats: scale · Πᵀ (centroids + constant · residual norm · Sᵀ signs), kRows rows
// a workgroup.

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

var<workgroup> cells: array<u32, kCellWords>;
var<private> first_row: u32;  // of the segment

fn sign_of(row: u32, i: u32) -> f32 {
  let at = first_row + row;
  let word = signs[(at / 16u * kSignWords + i / 32u) * 16u + at % 16u];
  return select(1.0, -1.0, extractBits(word, i % 32u, 1u) != 0u);
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  first_row = parameters.first_lane + group.x * kRows;
  let rows_here = min(kRows, parameters.rows - group.x * kRows);
  unproject_signs(lane);
  for (var c = lane; c < rows_here * kDim; c += kThreads) {
    let row = first_row + c / kDim;
    let j = c % kDim;
    let code = extractBits(quad_codes(first_word(row), j / 4u), 8u * (j % 4u), 8u);
    let weight = scales[parameters.norms_at + row] * kEstimator;
    set_cell(c, cell(c) * weight + f32(codebook[code]) * kCentroidStep);
  }
  rotate_back_rounds(lane, kRounds, 0u);
  for (var c = lane; c < rows_here * kDim; c += kThreads) {
    let scale = scales[first_row + c / kDim];
    decoded[group.x * kCells + c] = bitcast<u32>(cell(c) * kRotationFactor * scale);
  }
}
