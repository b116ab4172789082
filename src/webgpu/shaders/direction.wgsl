// The rows in `cells`, which must be finite, to their rotated directions, of length 1; zeros stay.

var<workgroup> inverse_norms: array<f32, kRows>;

fn rotate_directions(lane: u32) {
  prescale_cells(lane);
  if (lane < kRows) {
    let norm = norms[lane];
    var inverse = 0.0;
    if (norm.m != 0u) {
      let scaled = Real(norm.m, norm.e - prescale_exponent(norm));
      inverse = bitcast<f32>(float_of_real(real_divide(Real(0x80000000u, -31), scaled)));
    }
    inverse_norms[lane] = inverse;
  }
  workgroupBarrier();
  for (var c = lane; c < kCells; c += kThreads) {
    set_cell(c, cell(c) * inverse_norms[c / kDim]);
  }
  rotate_rounds(lane, kRounds, 0u);
  for (var c = lane; c < kCells; c += kThreads) {
    set_cell(c, cell(c) * kRotationFactor);
  }
}
