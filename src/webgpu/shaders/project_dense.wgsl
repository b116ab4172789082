// A sketch by a matrix, Gaussian or orthogonal, whose transpose [kDim × kSketchRows] stands in
// `masks` from kSketchTable on as float bits.

// Calls emit(row, i, z) for every projection z of the rows in `cells`.
fn project_cells(lane: u32) {
  workgroupBarrier();
  for (var i = lane; i < kSketchRows; i += kThreads) {
    var sums = array<f32, kRows>();
    for (var j = 0u; j < kDim; j++) {
      let coefficient = bitcast<f32>(masks[kSketchTable + j * kSketchRows + i]);
      for (var row = 0u; row < kRows; row++) {
        sums[row] += cell(row * kDim + j) * coefficient;
      }
    }
    for (var row = 0u; row < kRows; row++) {
      emit(row, i, sums[row]);
    }
  }
  workgroupBarrier();
}
