// The fast rotation of the row in `cells`, float operation by float operation that of kernels.h: a
// power-of-two dim is left unnormalised. `masks` holds the sign masks of all rounds.

fn cell(j: u32) -> f32 {
  return bitcast<f32>(cells[j]);
}

fn flip_signs(lane: u32, first_cell: u32, count: u32, first_mask: u32) {
  for (var j = lane; j < count; j += kThreads) {
    cells[first_cell + j] ^= masks[first_mask + j];
  }
  workgroupBarrier();
}

fn butterflies(lane: u32, first: u32) {
  for (var stride = 1u; stride < kPower; stride *= 2u) {
    for (var pair = lane; pair < kPower / 2u; pair += kThreads) {
      let j = first + 2u * (pair - pair % stride) + pair % stride;
      let a = cell(j);
      let b = cell(j + stride);
      cells[j] = bitcast<u32>(a + b);
      cells[j + stride] = bitcast<u32>(a - b);
    }
    workgroupBarrier();
  }
}

fn normalise(lane: u32, first: u32) {
  for (var j = lane; j < kPower; j += kThreads) {
    cells[first + j] = bitcast<u32>(cell(first + j) * kInverseRoot);
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
    let j = lane + i * kThreads;
    if (j < kDim) {
      kept[i] = cells[select(j, riffled(j), back)];
    }
  }
  workgroupBarrier();
  for (var i = 0u; i < kCellsPerThread; i++) {
    let j = lane + i * kThreads;
    if (j < kDim) {
      cells[select(riffled(j), j, back)] = kept[i];
    }
  }
  workgroupBarrier();
}

// Masks from first_mask on. The cells were written behind a barrier, or by this lane alone at j =
// lane, lane + kThreads, ...
fn rotate_rounds(lane: u32, rounds: u32, first_mask: u32) {
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
