// A sketch by a matrix, Gaussian or orthogonal, whose transpose [kDim × kSketchRows] stands in
// `masks` from kSketchTable on as float bits.

// Calls emit(i, z) for every projection z of the row in `cells`, which the lanes wrote at j = lane,
// lane + kThreads, ...
fn project_cells(lane: u32) {
  workgroupBarrier();
  for (var i = lane; i < kSketchRows; i += kThreads) {
    var z = 0.0;
    for (var j = 0u; j < kDim; j++) {
      z += cell(j) * bitcast<f32>(masks[kSketchTable + j * kSketchRows + i]);
    }
    emit(i, z);
  }
  workgroupBarrier();
}
