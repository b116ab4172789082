// Words of a row whose codes are in `cells`.

fn cell_quad(quad: u32) -> u32 {
  var bytes = 0u;
  for (var i = 0u; i < 4u; i++) {
    let j = 4u * quad + i;
    if (j < kDim) {
      bytes |= cells[j] << (8u * i);
    }
  }
  return bytes;
}

// Bits [shift, shift + run_bits) of the codes of one line.
fn run_word(run_bits: u32, shift: u32, line: u32) -> u32 {
  var word = 0u;
  if (run_bits != 3u) {
    let per_line = 8u / run_bits;
    for (var k = 0u; k < per_line; k++) {
      let piece = (cell_quad(line * per_line + k) >> shift) & (((1u << run_bits) - 1u) * kOnes);
      word |= piece << (run_bits * k);
    }
    return word;
  }
  let first = line / 3u * 8u;
  let m = line % 3u;
  word = (cell_quad(first + 2u * m) >> shift) & (7u * kOnes);
  word |= ((cell_quad(first + 2u * m + 1u) >> shift) & (7u * kOnes)) << 3u;
  if (m < 2u) {
    return word | (((cell_quad(first + 6u + m) >> shift) & (3u * kOnes)) << 6u);
  }
  word |= ((cell_quad(first + 6u) >> (shift + 2u)) & kOnes) << 6u;
  return word | (((cell_quad(first + 7u) >> (shift + 2u)) & kOnes) << 7u);
}

fn packed_word(line: u32) -> u32 {
  if (line < kFirstLines) {
    return run_word(kFirstRun, 0u, line);
  }
  return run_word(kSecondRun, kFirstRun, line - kFirstLines);
}
