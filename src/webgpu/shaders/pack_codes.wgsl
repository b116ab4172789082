// Words of rows whose codes are in `cells`.

fn cell_quad(row: u32, quad: u32) -> u32 {
  var bytes = 0u;
  for (var i = 0u; i < 4u; i++) {
    let j = 4u * quad + i;
    if (j < kDim) {
      bytes |= cells[place(row * kDim + j)] << (8u * i);
    }
  }
  return bytes;
}

// Bits [shift, shift + run_bits) of the codes of one line.
fn run_word(row: u32, run_bits: u32, shift: u32, line: u32) -> u32 {
  var word = 0u;
  if (run_bits != 3u) {
    let per_line = 8u / run_bits;
    for (var k = 0u; k < per_line; k++) {
      let piece = (cell_quad(row, line * per_line + k) >> shift) & (((1u << run_bits) - 1u) * kOnes);
      word |= piece << (run_bits * k);
    }
    return word;
  }
  let first = line / 3u * 8u;
  let m = line % 3u;
  word = (cell_quad(row, first + 2u * m) >> shift) & (7u * kOnes);
  word |= ((cell_quad(row, first + 2u * m + 1u) >> shift) & (7u * kOnes)) << 3u;
  if (m < 2u) {
    return word | (((cell_quad(row, first + 6u + m) >> shift) & (3u * kOnes)) << 6u);
  }
  word |= ((cell_quad(row, first + 6u) >> (shift + 2u)) & kOnes) << 6u;
  return word | (((cell_quad(row, first + 7u) >> (shift + 2u)) & kOnes) << 7u);
}

fn packed_word(row: u32, line: u32) -> u32 {
  if (line < kFirstLines) {
    return run_word(row, kFirstRun, 0u, line);
  }
  return run_word(row, kSecondRun, kFirstRun, line - kFirstLines);
}
