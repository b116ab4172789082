// Where codes lie in blocks of 16 rows (src/kernels/line_layout.h). A line is 16 words, one a row; a
// word holds quads, four codes that share a bit position of the word's bytes.

const kOnes = 0x01010101u;

// The first word of a row: its others follow 16 words apart.
fn first_word(row: u32) -> u32 {
  return row / 16u * kBlockWords + row % 16u;
}

fn run_codes(first: u32, run_bits: u32, quad: u32) -> u32 {
  if (run_bits != 3u) {
    let per_line = 8u / run_bits;
    let word = blocks[first + 16u * (quad / per_line)];
    return (word >> (run_bits * (quad % per_line))) & (((1u << run_bits) - 1u) * kOnes);
  }
  let triple = first + 48u * (quad / 8u);
  let k = quad % 8u;
  if (k < 6u) {
    return (blocks[triple + 16u * (k / 2u)] >> (3u * (k % 2u))) & (7u * kOnes);
  }
  let low = (blocks[triple + 16u * (k - 6u)] >> 6u) & (3u * kOnes);
  let high = (blocks[triple + 32u] >> k) & kOnes;
  return low | (high << 2u);
}

// The four codes of a quad, one a byte.
fn quad_codes(first: u32, quad: u32) -> u32 {
  var codes = run_codes(first, kFirstRun, quad);
  if (kBits > kFirstRun) {
    codes |= run_codes(first + 16u * kFirstLines, kSecondRun, quad) << kFirstRun;
  }
  return codes;
}
