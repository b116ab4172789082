// Packed rows to floats, kRows rows a workgroup.

struct Parameters {
  rows: u32,
  first_lane: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> masks: array<u32>;
@group(0) @binding(2) var<storage, read> codebook: array<i32>;
@group(0) @binding(3) var<storage, read> blocks: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<f32>;
@group(0) @binding(5) var<storage, read_write> decoded: array<u32>;  // float bits [rows × kDim]

var<workgroup> cells: array<u32, kCellWords>;

@compute @workgroup_size(kThreads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first_row = group.x * kRows;
  let rows_here = min(kRows, parameters.rows - first_row);
  for (var item = lane; item < rows_here * kQuads; item += kThreads) {
    let row = parameters.first_lane + first_row + item % rows_here;
    let quad = item / rows_here;
    let codes = quad_codes(first_word(row), quad);
    let factor = scales[row] * kDecodeStep;
    for (var i = 0u; i < min(4u, kDim - 4u * quad); i++) {
      let level = f32(codebook[extractBits(codes, 8u * i, 8u)]);
      set_cell(item % rows_here * kDim + 4u * quad + i, level * factor);
    }
  }
  rotate_back_rounds(lane, kRounds, 0u);
  for (var c = lane; c < rows_here * kDim; c += kThreads) {
    decoded[first_row * kDim + c] = cells[place(c)];
  }
}
