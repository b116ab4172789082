// A sketch by a matrix, Gaussian or orthogonal, whose transpose [kDim × kSketchRows] stands in
// `masks` from kSketchTable on as float bits.

// cells = Sᵀ signs, by sign_of(i).
fn unproject_signs(lane: u32) {
  for (var j = lane; j < kDim; j += kThreads) {
    var sum = 0.0;
    for (var i = 0u; i < kSketchRows; i++) {
      sum += sign_of(i) * bitcast<f32>(masks[kSketchTable + j * kSketchRows + i]);
    }
    cells[j] = bitcast<u32>(sum);
  }
}
