// The norm of the row in `cells` (float bits), to 2^-31, from an exact sum of squares: coordinates
// are taken as 31-bit integers under the largest one's exponent.

var<workgroup> cells: array<u32, kDim>;
var<workgroup> partials: array<vec4u, kThreads>;
var<workgroup> largest_bits: atomic<u32>;
var<workgroup> shared_norm: Real;

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

// Called by the whole workgroup, whose cells hold the row; the same for all of it. A row that is
// not finite has its largest bits above those of any float, and no norm.
fn norm_of_cells(lane: u32) -> Real {
  if (lane == 0u) {
    atomicStore(&largest_bits, 0u);
  }
  workgroupBarrier();
  var own = 0u;
  for (var j = lane; j < kDim; j += kThreads) {
    own = max(own, cells[j] & 0x7fffffffu);
  }
  atomicMax(&largest_bits, own);
  workgroupBarrier();
  let top = atomicLoad(&largest_bits);
  var sum = vec2u(0u);
  for (var j = lane; j < kDim; j += kThreads) {
    sum = add_wide(sum, square_on_grid(cells[j] & 0x7fffffffu, top));
  }
  partials[lane] = vec4u(sum, 0u, 0u);
  workgroupBarrier();
  if (lane == 0u) {
    var all = vec2u(0u);
    for (var i = 0u; i < kThreads; i++) {
      all = add_wide(all, partials[i].xy);
    }
    shared_norm = norm_of_sum(all, top);
  }
  workgroupBarrier();
  return shared_norm;
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

// cells · 2^-exponent, exact but for what becomes subnormal.
fn prescale_cells(lane: u32, exponent: i32) {
  if (exponent == 0) {
    return;
  }
  for (var j = lane; j < kDim; j += kThreads) {
    let real = real_of_float(cells[j] & 0x7fffffffu);
    cells[j] = (cells[j] & 0x80000000u) | float_of_real(Real(real.m, real.e - exponent));
  }
}
