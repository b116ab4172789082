// Queries for Prod: rotated directions, their projections times the estimator's constant, and norms;
// one workgroup a query. Four queries stand side by side.

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

var<private> query: u32;

fn emit(i: u32, z: f32) {
  projections[(query / 4u * 32u * kSignWords + i) * 4u + query % 4u] = z * kEstimator;
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (group.x >= parameters.queries) {
    return;
  }
  query = group.x;
  for (var j = lane; j < kDim; j += kThreads) {
    cells[j] = rows[group.x * kDim + j];
  }
  let norm = norm_of_cells(lane);
  if (lane == 0u && atomicLoad(&largest_bits) >= 0x7f800000u) {
    atomicMin(&status[0], group.x);
  }
  rotate_direction(lane, norm);
  for (var j = lane; j < kDim; j += kThreads) {
    rotated[(group.x / 4u * 4u * kQuads + j) * 4u + group.x % 4u] = cell(j);
  }
  project_cells(lane);
  if (lane == 0u) {
    factors[group.x] = float_of_real(norm);
  }
}
