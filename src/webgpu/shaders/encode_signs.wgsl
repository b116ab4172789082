// The residuals of rows whose codes are written, as signs of their sketch and norms relative to the
// unit row; kRows rows a workgroup.

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

var<workgroup> sign_words: array<atomic<u32>, kRows * kSignWords>;

// Sign i of a row is bit i of a little-endian stream, 1 = negative; zero counts as positive.
fn emit(row: u32, i: u32, z: f32) {
  if (z < 0.0) {
    atomicOr(&sign_words[row * kSignWords + i / 32u], 1u << (i % 32u));
  }
}

// Cells of directions to what the codes of their rows miss.
fn subtract_centroids(lane: u32, first_row: u32, rows_here: u32) {
  for (var c = lane; c < rows_here * kDim; c += kThreads) {
    let j = c % kDim;
    let first = first_word(parameters.first_lane + first_row + c / kDim);
    let code = extractBits(quad_codes(first, j / 4u), 8u * (j % 4u), 8u);
    let residual = cell(c) - f32(codebook[code]) * kCentroidStep;
    set_cell(c, select(residual, 0.0, norms[c / kDim].m == 0u));
  }
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_row = group.x * kRows;
  let rows_here = min(kRows, parameters.rows - first_row);
  for (var w = lane; w < kRows * kSignWords; w += kThreads) {
    atomicStore(&sign_words[w], 0u);
  }
  load_cells(lane, first_row * kDim, rows_here * kDim);
  measure_norms(lane);
  rotate_directions(lane);
  subtract_centroids(lane, first_row, rows_here);
  workgroupBarrier();
  measure_norms(lane);
  if (lane < rows_here) {
    let bits = float_of_real(norms[lane]);
    scales[parameters.norms_at + parameters.first_lane + first_row + lane] =
        select(bits, half_of_float(bits), kHalfScales);
  }
  project_cells(lane);
  workgroupBarrier();
  for (var w = lane; w < rows_here * kSignWords; w += kThreads) {
    let row = parameters.first_lane + first_row + w / kSignWords;
    signs[(row / 16u * kSignWords + w % kSignWords) * 16u + row % 16u] = atomicLoad(&sign_words[w]);
  }
}
