// The norms of the kRows rows in `cells` (float bits), to 2^-31, from exact sums of squares:
// coordinates are taken as 31-bit integers under the largest one's exponent.

// Lanes that take a row's coordinates together.
const kLanes = kThreads / kRows;

var<workgroup> cells: array<u32, kCellWords>;
var<workgroup> partial_squares: array<vec2u, kThreads>;
var<workgroup> largest_bits: array<atomic<u32>, kRows>;
var<workgroup> norms: array<Real, kRows>;

// Words of `rows` (float bits) from first_word on to cells; what lies behind `count` becomes zero.
fn load_cells(lane: u32, first_word: u32, count: u32) {
  for (var c = lane; c < kCells; c += kThreads) {
    var bits = 0u;
    if (c < count) {
      bits = rows[first_word + c];
    }
    cells[place(c)] = bits;
  }
}

// The square of a coordinate on that grid, without its 16 low bits: all of a row fit 62 bits.
fn square_on_grid(bits: u32, top: u32) -> vec2u {
  let exponent = max(top >> 23u, 1u);
  let own = max(bits >> 23u, 1u);
  let down = exponent - min(own, exponent);
  if (down > 31u) {
    return vec2u(0u);
  }
  // Only a row of subnormals alone leaves room above its mantissas.
  let room = countLeadingZeros(mantissa_of(top)) - 1u;
  let shifted = mantissa_of(bits) << room;
  let rounding = select(0u, (shifted >> (max(down, 1u) - 1u)) & 1u, down > 0u);
  let q = (shifted >> down) + rounding;
  let square = multiply_words(q, q);
  return vec2u((square.x >> 16u) | (square.y << 16u), square.y >> 16u);
}

fn mantissa_of(bits: u32) -> u32 {
  return select(bits & 0x7fffffu, (bits & 0x7fffffu) | 0x800000u, bits >= 0x800000u);
}

fn norm_of_sum(sum: vec2u, top: u32) -> Real {
  let square = real_of_wide(sum);
  let root = real_sqrt(Real(square.m, square.e + 16));
  let room = i32(countLeadingZeros(mantissa_of(top))) - 1;
  return Real(root.m, select(root.e + i32(max(top >> 23u, 1u)) - 150 - room, 0, root.m == 0u));
}

// Fills `norms`, of rows that the lanes wrote in any order. A row that is not finite has its largest
// bits above those of any float, and no norm.
fn measure_norms(lane: u32) {
  let row = lane / kLanes;
  if (lane < kRows) {
    atomicStore(&largest_bits[lane], 0u);  // lavapipe does not zero it for every workgroup
  }
  workgroupBarrier();
  var own = 0u;
  for (var j = lane % kLanes; j < kDim; j += kLanes) {
    own = max(own, cells[place(row * kDim + j)] & 0x7fffffffu);
  }
  atomicMax(&largest_bits[row], own);
  workgroupBarrier();
  let top = atomicLoad(&largest_bits[row]);
  var sum = vec2u(0u);
  for (var j = lane % kLanes; j < kDim; j += kLanes) {
    sum = add_wide(sum, square_on_grid(cells[place(row * kDim + j)] & 0x7fffffffu, top));
  }
  partial_squares[lane] = sum;
  workgroupBarrier();
  if (lane < kRows) {
    var all = vec2u(0u);
    for (var i = 0u; i < kLanes; i++) {
      all = add_wide(all, partial_squares[lane * kLanes + i]);
    }
    norms[lane] = norm_of_sum(all, atomicLoad(&largest_bits[lane]));
  }
  workgroupBarrier();
}

// What a row is multiplied by before it is rotated, as an exponent: rows of extreme norm would
// leave float on the way.
fn prescale_exponent(norm: Real) -> i32 {
  let exponent = norm.e + 31;
  if (norm.m == 0u || (exponent >= -40 && exponent < 40)) {
    return 0;
  }
  return clamp(exponent, -126, 126);
}

// Cells · 2^-exponent of their row, exact but for what becomes subnormal.
fn prescale_cells(lane: u32) {
  let row = lane / kLanes;
  let exponent = prescale_exponent(norms[row]);
  if (exponent == 0) {
    return;
  }
  for (var j = lane % kLanes; j < kDim; j += kLanes) {
    let at = place(row * kDim + j);
    let real = real_of_float(cells[at] & 0x7fffffffu);
    cells[at] = (cells[at] & 0x80000000u) | float_of_real(Real(real.m, real.e - exponent));
  }
}
