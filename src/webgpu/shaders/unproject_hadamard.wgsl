// A sketch of stacked Hadamard rotations, whose masks stand in `masks` from kSketchTable on.

// Cells = Sᵀ signs of their rows, by sign_of(row, i).
fn unproject_signs(lane: u32) {
  var sums: array<f32, kCellsPerThread>;
  for (var which = 0u; which < kSketchRotations; which++) {
    for (var c = lane; c < kCells; c += kThreads) {
      let i = which * kDim + c % kDim;
      set_cell(c, select(0.0, sign_of(c / kDim, i), i < kSketchRows));
    }
    rotate_back_rounds(lane, kSketchRounds,
                       kSketchTable + which * kSketchRounds * kMasksPerRound);
    for (var i = 0u; i < kCellsPerThread; i++) {
      let rotated = cell(min(lane + i * kThreads, kCells - 1u));
      sums[i] += rotated * kSketchFactor * kSketchLength;
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < kCellsPerThread; i++) {
    if (lane + i * kThreads < kCells) {
      set_cell(lane + i * kThreads, sums[i]);
    }
  }
}
