// A sketch of stacked Hadamard rotations, whose masks stand in `masks` from kSketchTable on.

// Calls emit(row, i, z) for every projection z of the rows in `cells`, which are lost.
fn project_cells(lane: u32) {
  workgroupBarrier();
  var kept: array<f32, kCellsPerThread>;
  for (var i = 0u; i < kCellsPerThread; i++) {
    kept[i] = cell(min(lane + i * kThreads, kCells - 1u));
  }
  for (var which = 0u; which < kSketchRotations; which++) {
    workgroupBarrier();
    for (var i = 0u; i < kCellsPerThread; i++) {
      if (lane + i * kThreads < kCells) {
        set_cell(lane + i * kThreads, kept[i]);
      }
    }
    rotate_rounds(lane, kSketchRounds, kSketchTable + which * kSketchRounds * kMasksPerRound);
    for (var c = lane; c < kCells; c += kThreads) {
      let i = which * kDim + c % kDim;
      if (i < kSketchRows) {
        emit(c / kDim, i, cell(c) * kSketchFactor * kSketchLength);
      }
    }
  }
}
