// The sums of all spans, over the weights' sum, rotated back once; kRows queries a workgroup.

struct Parameters {
  spans: u32,
  queries: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> masks: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;  // [spans × queries × 4 kQuads]
@group(0) @binding(3) var<storage, read> inverse_sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> outputs: array<u32>;  // float bits [queries × kDim]

var<workgroup> cells: array<u32, kCellWords>;

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_query = group.x * kRows;
  let queries_here = min(kRows, parameters.queries - first_query);
  for (var c = lane; c < queries_here * kDim; c += kThreads) {
    let query = first_query + c / kDim;
    var sum = 0.0;
    for (var span = 0u; span < parameters.spans; span++) {
      sum += sums[(span * parameters.queries + query) * 4u * kQuads + c % kDim];
    }
    set_cell(c, sum * (inverse_sums[query] * kDecodeStep));
  }
  rotate_back_rounds(lane, kRounds, 0u);
  for (var c = lane; c < queries_here * kDim; c += kThreads) {
    outputs[first_query * kDim + c] = cells[place(c)];
  }
}
