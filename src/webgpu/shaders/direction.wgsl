// The row in `cells`, which must be finite, to its rotated direction, of length 1; zeros stay.
fn rotate_direction(lane: u32, norm: Real) {
  let exponent = prescale_exponent(norm);
  prescale_cells(lane, exponent);
  var inverse = 0.0;
  if (norm.m != 0u) {
    let one = Real(0x80000000u, -31);
    inverse = bitcast<f32>(float_of_real(real_divide(one, Real(norm.m, norm.e - exponent))));
  }
  for (var j = lane; j < kDim; j += kThreads) {
    cells[j] = bitcast<u32>(cell(j) * inverse);
  }
  rotate_rounds(lane, kRounds, 0u);
  for (var j = lane; j < kDim; j += kThreads) {
    cells[j] = bitcast<u32>(cell(j) * kRotationFactor);
  }
}
