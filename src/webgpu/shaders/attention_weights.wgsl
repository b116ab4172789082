// Scores of one query to the numerators of their softmax, in place, and 1 / their sum; one workgroup a
// query.

struct Parameters {
  tokens: u32,
  scale: u32,  // float bits, of the logits
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read_write> weights: array<f32>;  // [queries × tokens]
@group(0) @binding(2) var<storage, read_write> inverse_sums: array<f32>;

var<workgroup> partials: array<f32, kThreads>;
var<workgroup> total: f32;

fn largest_of_all(lane: u32, own: f32) -> f32 {
  partials[lane] = own;
  workgroupBarrier();
  if (lane == 0u) {
    total = partials[0];
    for (var i = 1u; i < kThreads; i++) {
      total = max(total, partials[i]);
    }
  }
  workgroupBarrier();
  return total;
}

fn sum_of_all(lane: u32, own: f32) -> f32 {
  partials[lane] = own;
  workgroupBarrier();
  if (lane == 0u) {
    total = 0.0;
    for (var i = 0u; i < kThreads; i++) {
      total += partials[i];
    }
  }
  workgroupBarrier();
  return total;
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * parameters.tokens;
  let scale = bitcast<f32>(parameters.scale);
  var largest = -3.0e38;
  for (var t = lane; t < parameters.tokens; t += kThreads) {
    largest = max(largest, weights[first + t] * scale);
  }
  largest = largest_of_all(lane, largest);
  var sum = 0.0;
  for (var t = lane; t < parameters.tokens; t += kThreads) {
    let weight = exp(weights[first + t] * scale - largest);
    weights[first + t] = weight;
    sum += weight;
  }
  workgroupBarrier();
  sum = sum_of_all(lane, sum);
  if (lane == 0u) {
    inverse_sums[group.x] = 1.0 / sum;
  }
}
