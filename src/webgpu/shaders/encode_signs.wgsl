// The residuals of rows whose codes are written, as signs of their sketch and norms relative to the
// unit row; one workgroup a row.

struct Parameters {
  rows: u32,
  first_lane: u32,  // of the segment
  norms_at: u32,    // in scales: behind them stand the residual norms
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> rows: array<u32>;  // float bits [rows × kDim]
@group(0) @binding(2) var<storage, read> masks: array<u32>;
@group(0) @binding(3) var<storage, read> codebook: array<i32>;
@group(0) @binding(4) var<storage, read> blocks: array<u32>;
@group(0) @binding(5) var<storage, read_write> signs: array<u32>;
@group(0) @binding(6) var<storage, read_write> scales: array<u32>;  // float bits

var<workgroup> sign_words: array<atomic<u32>, kSignWords>;

// Sign i is bit i of a little-endian stream, 1 = negative; zero counts as positive.
fn emit(i: u32, z: f32) {
  if (z < 0.0) {
    atomicOr(&sign_words[i / 32u], 1u << (i % 32u));
  }
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = parameters.first_lane + group.x;
  for (var j = lane; j < kDim; j += kThreads) {
    cells[j] = rows[group.x * kDim + j];
  }
  for (var w = lane; w < kSignWords; w += kThreads) {
    atomicStore(&sign_words[w], 0u);
  }
  let norm = norm_of_cells(lane);
  rotate_direction(lane, norm);
  let first = first_word(row);
  for (var j = lane; j < kDim; j += kThreads) {
    let code = extractBits(quad_codes(first, j / 4u), 8u * (j % 4u), 8u);
    let residual = cell(j) - f32(codebook[code]) * kCentroidStep;
    cells[j] = bitcast<u32>(select(residual, 0.0, norm.m == 0u));
  }
  let residual_norm = norm_of_cells(lane);
  project_cells(lane);
  workgroupBarrier();
  for (var w = lane; w < kSignWords; w += kThreads) {
    signs[(row / 16u * kSignWords + w) * 16u + row % 16u] = atomicLoad(&sign_words[w]);
  }
  if (lane == 0u) {
    let bits = float_of_real(residual_norm);
    scales[parameters.norms_at + row] = select(bits, half_of_float(bits), kHalfScales);
  }
}
