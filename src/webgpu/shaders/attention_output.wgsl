// The sums of all spans over those of their numerators, rotated back once; kRows queries a workgroup.

struct Parameters {
  spans: u32,
  queries: u32,
}

struct Span {
  largest: f32,  // logit
  total: f32,    // of the numerators
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> masks: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;   // [spans × queries × 4 kQuads]
@group(0) @binding(3) var<storage, read> spans: array<Span>;  // [spans × queries]
@group(0) @binding(4) var<storage, read_write> outputs: array<u32>;  // float bits [queries × kDim]

var<workgroup> cells: array<u32, kCellWords>;
var<workgroup> largest_logits: array<f32, kRows>;

fn largest_logit(query: u32) -> f32 {
  var largest = -3.0e38;
  for (var s = 0u; s < parameters.spans; s++) {
    largest = max(largest, spans[s * parameters.queries + query].largest);
  }
  return largest;
}

// One coordinate of a query's output, rotated.
fn weighted_mean(query: u32, j: u32, largest: f32) -> f32 {
  var sum = 0.0;
  var total = 0.0;
  for (var s = 0u; s < parameters.spans; s++) {
    let place = s * parameters.queries + query;
    let weight = exp(spans[place].largest - largest);
    sum += weight * sums[place * 4u * kQuads + j];
    total += weight * spans[place].total;
  }
  return sum / total;
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_query = group.x * kRows;
  let queries_here = min(kRows, parameters.queries - first_query);
  if (lane < queries_here) {
    largest_logits[lane] = largest_logit(first_query + lane);
  }
  workgroupBarrier();
  for (var c = lane; c < queries_here * kDim; c += kThreads) {
    let mean = weighted_mean(first_query + c / kDim, c % kDim, largest_logits[c / kDim]);
    set_cell(c, mean * kDecodeStep);
  }
  rotate_back_rounds(lane, kRounds, 0u);
  for (var c = lane; c < queries_here * kDim; c += kThreads) {
    outputs[first_query * kDim + c] = cells[place(c)];
  }
}
