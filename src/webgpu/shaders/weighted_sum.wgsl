// Softmax and weighted sums of packed values in the rotated domain, by spans of kSpanRows rows: one
// workgroup a span and query. Numerators are relative to the span's largest logit, which
// attention_output takes together.

struct Parameters {
  rows: u32,         // of the segment
  tokens: u32,       // of a query's scores
  first_token: u32,  // of the segment
  first_span: u32,   // of the segment
  queries: u32,
  scale: u32,  // float bits, of the logits
}

struct Span {
  largest: f32,  // logit
  total: f32,    // of the numerators
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> codebook: array<i32>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> scores: array<f32>;         // [queries × tokens]
@group(0) @binding(5) var<storage, read_write> sums: array<vec4f>;   // [spans × queries × kQuads]
@group(0) @binding(6) var<storage, read_write> spans: array<Span>;   // [spans × queries]

// Lanes that take every kSplits-th row of a quad of coordinates.
const kSplits = max(kThreads / kQuads, 1u);

var<workgroup> levels: array<f32, kCodes>;
var<workgroup> weights: array<f32, kSpanRows>;  // numerators, times the rows' scales
var<workgroup> partials: array<f32, kThreads>;
var<workgroup> partial_sums: array<vec4f, select(1u, kSplits * kQuads, kSplits > 1u)>;

fn largest_of_all(lane: u32, own: f32) -> f32 {
  partials[lane] = own;
  workgroupBarrier();
  for (var half = kThreads / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      partials[lane] = max(partials[lane], partials[lane + half]);
    }
    workgroupBarrier();
  }
  return partials[0];
}

fn sum_of_all(lane: u32, own: f32) -> f32 {
  workgroupBarrier();
  partials[lane] = own;
  workgroupBarrier();
  for (var half = kThreads / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      partials[lane] += partials[lane + half];
    }
    workgroupBarrier();
  }
  return partials[0];
}

// Fills `weights` of rows [first, first + count).
fn weigh(lane: u32, query: u32, first: u32, count: u32) -> Span {
  let scale = bitcast<f32>(parameters.scale);
  let first_score = query * parameters.tokens + parameters.first_token + first;
  var largest = -3.0e38;
  for (var r = lane; r < count; r += kThreads) {
    largest = max(largest, scores[first_score + r] * scale);
  }
  largest = largest_of_all(lane, largest);
  var total = 0.0;
  for (var r = lane; r < count; r += kThreads) {
    let numerator = exp(scores[first_score + r] * scale - largest);
    total += numerator;
    weights[r] = numerator * scales[first + r];
  }
  return Span(largest, sum_of_all(lane, total));
}

fn sum_of_rows(quad: u32, first: u32, split: u32, count: u32) -> vec4f {
  var sum = vec4f(0.0);
  for (var r = split; r < count; r += kSplits) {
    let codes = quad_codes(first_word(first + r), quad);
    sum += weights[r] * vec4f(levels[codes & 255u], levels[extractBits(codes, 8u, 8u)],
                              levels[extractBits(codes, 16u, 8u)], levels[codes >> 24u]);
  }
  return sum;
}

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  for (var i = lane; i < kCodes; i += kThreads) {
    levels[i] = f32(codebook[i]);
  }
  let first = group.x * kSpanRows;
  let count = min(kSpanRows, parameters.rows - first);
  let span = weigh(lane, group.y, first, count);
  if (kSplits > 1u) {
    for (var i = lane; i < kSplits * kQuads; i += kThreads) {
      partial_sums[i] = sum_of_rows(i % kQuads, first, i / kQuads, count);
    }
    workgroupBarrier();
  }
  let place = (parameters.first_span + group.x) * parameters.queries + group.y;
  for (var quad = lane; quad < kQuads; quad += kThreads) {
    var sum = vec4f(0.0);
    if (kSplits > 1u) {
      for (var split = 0u; split < kSplits; split++) {
        sum += partial_sums[split * kQuads + quad];
      }
    } else {
      sum = sum_of_rows(quad, first, 0u, count);
    }
    sums[place * kQuads + quad] = sum;
  }
  if (lane == 0u) {
    spans[place] = span;
  }
}
