// Queries for Prod: rotated directions, their projections times the estimator's constant, and norms;
// kRows queries a workgroup. Four queries stand side by side.

struct Parameters {
  queries: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> rows: array<u32>;  // float bits [queries × kDim]
@group(0) @binding(2) var<storage, read> masks: array<u32>;
@group(0) @binding(3) var<storage, read_write> rotated: array<f32>;      // [tile × 4 kQuads × 4]
@group(0) @binding(4) var<storage, read_write> projections: array<f32>;  // [tile × 32 kSignWords × 4]
@group(0) @binding(5) var<storage, read_write> factors: array<u32>;      // float bits
@group(0) @binding(6) var<storage, read_write> status: array<atomic<u32>, 4>;

var<private> first_query: u32;

fn emit(row: u32, i: u32, z: f32) {
  let query = first_query + row;
  if (query < parameters.queries) {
    projections[(query / 4u * 32u * kSignWords + i) * 4u + query % 4u] = z * kEstimator;
  }
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  first_query = group.x * kRows;
  let queries_here = min(kRows, parameters.queries - first_query);
  load_cells(lane, first_query * kDim, queries_here * kDim);
  measure_norms(lane);
  if (lane < queries_here) {
    if (atomicLoad(&largest_bits[lane]) >= 0x7f800000u) {
      atomicMin(&status[0], first_query + lane);
    }
    factors[first_query + lane] = float_of_real(norms[lane]);
  }
  rotate_directions(lane);
  for (var c = lane; c < queries_here * kDim; c += kThreads) {
    let query = first_query + c / kDim;
    rotated[(query / 4u * 4u * kQuads + c % kDim) * 4u + query % 4u] = cell(c);
  }
  project_cells(lane);
}
