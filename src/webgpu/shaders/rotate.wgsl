// The fast rotation of the kRows rows in `cells`, float operation by float operation that of
// kernels.h: a power-of-two dim is left unnormalised. `masks` holds the sign masks of all rounds.
//
// Cell c = row · kDim + j lies at place(c). Stages go in passes of up to four, whose up to sixteen
// cells a lane keeps in registers: they only add and subtract, which leaves a driver nothing to
// contract.

// One word in 17 stays empty, so that lanes that are 16 cells apart meet different banks.
fn place(c: u32) -> u32 {
  return c + c / 16u;
}

fn cell(c: u32) -> f32 {
  return bitcast<f32>(cells[place(c)]);
}

fn set_cell(c: u32, x: f32) {
  cells[place(c)] = bitcast<u32>(x);
}

// The first cell of an item's stages in its row, from `first` on.
fn first_of_item(item: u32, radix: u32, first: u32, stride: u32) -> u32 {
  let row = item / (kPower / radix);
  let i = item % (kPower / radix);
  return row * kDim + first + i / stride * stride * radix + i % stride;
}

fn four_cells(c: u32, stride: u32) -> vec4f {
  return vec4f(cell(c), cell(c + stride), cell(c + 2u * stride), cell(c + 3u * stride));
}

fn set_four_cells(c: u32, stride: u32, x: vec4f) {
  set_cell(c, x.x);
  set_cell(c + stride, x.y);
  set_cell(c + 2u * stride, x.z);
  set_cell(c + 3u * stride, x.w);
}

// Two stages within four cells.
fn two_stages(x: vec4f) -> vec4f {
  let y = vec4f(x.x + x.y, x.x - x.y, x.z + x.w, x.z - x.w);
  return vec4f(y.x + y.z, y.y + y.w, y.x - y.z, y.y - y.w);
}

fn pass_of_2(lane: u32, first: u32, stride: u32) {
  for (var item = lane; item < kRows * kPower / 2u; item += kThreads) {
    let c = first_of_item(item, 2u, first, stride);
    let a = cell(c);
    let b = cell(c + stride);
    set_cell(c, a + b);
    set_cell(c + stride, a - b);
  }
}

fn pass_of_4(lane: u32, first: u32, stride: u32) {
  for (var item = lane; item < kRows * kPower / 4u; item += kThreads) {
    let c = first_of_item(item, 4u, first, stride);
    set_four_cells(c, stride, two_stages(four_cells(c, stride)));
  }
}

fn pass_of_8(lane: u32, first: u32, stride: u32) {
  for (var item = lane; item < kRows * kPower / 8u; item += kThreads) {
    let c = first_of_item(item, 8u, first, stride);
    let a = two_stages(four_cells(c, stride));
    let b = two_stages(four_cells(c + 4u * stride, stride));
    set_four_cells(c, stride, a + b);
    set_four_cells(c + 4u * stride, stride, a - b);
  }
}

fn pass_of_16(lane: u32, first: u32, stride: u32) {
  for (var item = lane; item < kRows * kPower / 16u; item += kThreads) {
    let c = first_of_item(item, 16u, first, stride);
    let a = two_stages(four_cells(c, stride));
    let b = two_stages(four_cells(c + 4u * stride, stride));
    let d = two_stages(four_cells(c + 8u * stride, stride));
    let e = two_stages(four_cells(c + 12u * stride, stride));
    set_four_cells(c, stride, (a + b) + (d + e));
    set_four_cells(c + 4u * stride, stride, (a - b) + (d - e));
    set_four_cells(c + 8u * stride, stride, (a + b) - (d + e));
    set_four_cells(c + 12u * stride, stride, (a - b) - (d - e));
  }
}

fn butterflies(lane: u32, first: u32) {
  for (var stride = 1u; stride < kPower; stride *= 16u) {
    let left = kPower / stride;
    if (left >= 16u) {
      pass_of_16(lane, first, stride);
    } else if (left == 8u) {
      pass_of_8(lane, first, stride);
    } else if (left == 4u) {
      pass_of_4(lane, first, stride);
    } else {
      pass_of_2(lane, first, stride);
    }
    workgroupBarrier();
  }
}

// Of `count` cells of every row, from `first` on.
fn flip_signs(lane: u32, first: u32, count: u32, first_mask: u32) {
  for (var item = lane; item < kRows * count; item += kThreads) {
    let j = item % count;
    cells[place(item / count * kDim + first + j)] ^= masks[first_mask + j];
  }
  workgroupBarrier();
}

fn normalise(lane: u32, first: u32) {
  for (var item = lane; item < kRows * kPower; item += kThreads) {
    let c = item / kPower * kDim + first + item % kPower;
    set_cell(c, cell(c) * kInverseRoot);
  }
  workgroupBarrier();
}

// Where coordinate j goes: even ones first, then the odd ones.
fn riffled(j: u32) -> u32 {
  return j / 2u + select(0u, (kDim + 1u) / 2u, (j & 1u) != 0u);
}

fn riffle(lane: u32, back: bool) {
  var kept: array<u32, kCellsPerThread>;
  for (var i = 0u; i < kCellsPerThread; i++) {
    let c = lane + i * kThreads;
    if (c < kCells) {
      let j = c % kDim;
      kept[i] = cells[place(c - j + select(j, riffled(j), back))];
    }
  }
  workgroupBarrier();
  for (var i = 0u; i < kCellsPerThread; i++) {
    let c = lane + i * kThreads;
    if (c < kCells) {
      let j = c % kDim;
      cells[place(c - j + select(riffled(j), j, back))] = kept[i];
    }
  }
  workgroupBarrier();
}

// Masks from first_mask on.
fn rotate_rounds(lane: u32, rounds: u32, first_mask: u32) {
  workgroupBarrier();
  for (var round = 0u; round < rounds; round++) {
    let mask = first_mask + round * kMasksPerRound;
    flip_signs(lane, 0u, kDim, mask);
    butterflies(lane, 0u);
    if (kPower < kDim) {
      normalise(lane, 0u);
      flip_signs(lane, kDim - kPower, kPower, mask + kDim);
      butterflies(lane, kDim - kPower);
      normalise(lane, kDim - kPower);
      riffle(lane, false);
    }
  }
}

fn rotate_back_rounds(lane: u32, rounds: u32, first_mask: u32) {
  workgroupBarrier();
  for (var done = 0u; done < rounds; done++) {
    let mask = first_mask + (rounds - 1u - done) * kMasksPerRound;
    if (kPower < kDim) {
      riffle(lane, true);
      butterflies(lane, kDim - kPower);
      normalise(lane, kDim - kPower);
      flip_signs(lane, kDim - kPower, kPower, mask + kDim);
    }
    butterflies(lane, 0u);
    if (kPower < kDim) {
      normalise(lane, 0u);
    }
    flip_signs(lane, 0u, kDim, mask);
  }
}
