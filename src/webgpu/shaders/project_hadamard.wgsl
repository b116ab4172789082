// A sketch of stacked Hadamard rotations, whose masks stand in `masks` from kSketchTable on.

// Calls emit(i, z) for every projection z of the row in `cells`, which is lost.
fn project_cells(lane: u32) {
  var kept: array<u32, kCellsPerThread>;
  for (var i = 0u; i < kCellsPerThread; i++) {
    kept[i] = cells[min(lane + i * kThreads, kDim - 1u)];
  }
  for (var which = 0u; which < kSketchRotations; which++) {
    for (var i = 0u; i < kCellsPerThread; i++) {
      if (lane + i * kThreads < kDim) {
        cells[lane + i * kThreads] = kept[i];
      }
    }
    rotate_rounds(lane, kSketchRounds, kSketchTable + which * kSketchRounds * kMasksPerRound);
    for (var j = lane; j < kDim; j += kThreads) {
      if (which * kDim + j < kSketchRows) {
        emit(which * kDim + j, cell(j) * kSketchFactor * kSketchLength);
      }
    }
  }
}
