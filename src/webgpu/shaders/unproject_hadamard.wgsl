// A sketch of stacked Hadamard rotations, whose masks stand in `masks` from kSketchTable on.

// cells = Sᵀ signs, by sign_of(i).
fn unproject_signs(lane: u32) {
  var sums: array<f32, kCellsPerThread>;
  for (var which = 0u; which < kSketchRotations; which++) {
    for (var j = lane; j < kDim; j += kThreads) {
      let i = which * kDim + j;
      cells[j] = bitcast<u32>(select(0.0, sign_of(i), i < kSketchRows));
    }
    rotate_back_rounds(lane, kSketchRounds,
                       kSketchTable + which * kSketchRounds * kMasksPerRound);
    for (var i = 0u; i < kCellsPerThread; i++) {
      let rotated = cell(min(lane + i * kThreads, kDim - 1u));
      sums[i] += rotated * kSketchFactor * kSketchLength;
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < kCellsPerThread; i++) {
    if (lane + i * kThreads < kDim) {
      cells[lane + i * kThreads] = bitcast<u32>(sums[i]);
    }
  }
}
