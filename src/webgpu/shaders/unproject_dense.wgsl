// A sketch by a matrix, Gaussian or orthogonal, whose transpose [kDim × kSketchRows] stands in
// `masks` from kSketchTable on as float bits.

// Cells = Sᵀ signs of their rows, by sign_of(row, i).
fn unproject_signs(lane: u32) {
  for (var c = lane; c < kCells; c += kThreads) {
    var sum = 0.0;
    for (var i = 0u; i < kSketchRows; i++) {
      let coefficient = bitcast<f32>(masks[kSketchTable + c % kDim * kSketchRows + i]);
      sum += sign_of(c / kDim, i) * coefficient;
    }
    set_cell(c, sum);
  }
}
