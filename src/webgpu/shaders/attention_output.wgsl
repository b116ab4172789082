// The sums of all spans, over the weights' sum, rotated back once; one workgroup a query.

struct Parameters {
  spans: u32,
  queries: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> masks: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;  // [spans × queries × 4 kQuads]
@group(0) @binding(3) var<storage, read> inverse_sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> outputs: array<u32>;  // float bits [queries × kDim]

var<workgroup> cells: array<u32, kDim>;

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let factor = inverse_sums[group.x] * kDecodeStep;
  for (var j = lane; j < kDim; j += kThreads) {
    var sum = 0.0;
    for (var span = 0u; span < parameters.spans; span++) {
      sum += sums[(span * parameters.queries + group.x) * 4u * kQuads + j];
    }
    cells[j] = bitcast<u32>(sum * factor);
  }
  rotate_back_rounds(lane, kRounds, 0u);
  for (var j = lane; j < kDim; j += kThreads) {
    outputs[group.x * kDim + j] = cells[j];
  }
}
