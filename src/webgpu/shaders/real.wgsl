// Numbers in integers alone, so that every driver gives the same bits: WGSL has no doubles, and its
// floats may be contracted or flushed.
//
// A Real is m · 2^e with m in [2^31, 2^32), or 0 with m = 0: positive, truncated to 32 bits, so each
// operation is right to 2^-31. A wide is a 64-bit integer as (low, high), two's complement where
// signed.

struct Real {
  m: u32,
  e: i32,
}

fn multiply_words(a: u32, b: u32) -> vec2u {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return vec2u((other << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

fn add_wide(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn widen(a: i32) -> vec2u {
  return vec2u(bitcast<u32>(a), bitcast<u32>(a >> 31u));
}

fn negate_wide(a: vec2u) -> vec2u {
  return add_wide(~a, vec2u(1u, 0u));
}

fn is_negative(a: vec2u) -> bool {
  return (a.y >> 31u) != 0u;
}

// count < 64.
fn shift_left_wide(a: vec2u, count: u32) -> vec2u {
  if (count >= 32u) {
    return vec2u(0u, a.x << (count - 32u));
  }
  if (count == 0u) {
    return a;
  }
  return vec2u(a.x << count, (a.y << count) | (a.x >> (32u - count)));
}

fn leading_zeros_wide(a: vec2u) -> u32 {
  return select(32u + countLeadingZeros(a.x), countLeadingZeros(a.y), a.y != 0u);
}

// a >= 0.
fn real_of_wide(a: vec2u) -> Real {
  let zeros = leading_zeros_wide(a);
  if (zeros == 64u) {
    return Real(0u, 0);
  }
  return Real(shift_left_wide(a, zeros).y, 32 - i32(zeros));
}

// Of a positive or zero float, which may be subnormal.
fn real_of_float(bits: u32) -> Real {
  let exponent = i32(bits >> 23u);
  let fraction = bits & 0x7fffffu;
  let wide = vec2u(select(fraction, fraction | 0x800000u, exponent > 0), 0u);
  let real = real_of_wide(wide);
  return Real(real.m, select(real.e + max(exponent, 1) - 150, 0, real.m == 0u));
}

fn real_multiply(a: Real, b: Real) -> Real {
  let product = multiply_words(a.m, b.m);
  if ((product.y >> 31u) != 0u) {
    return Real(product.y, a.e + b.e + 32);
  }
  return Real((product.y << 1u) | (product.x >> 31u), a.e + b.e + 31);
}

// b > 0.
fn real_divide(a: Real, b: Real) -> Real {
  if (a.m == 0u) {
    return Real(0u, 0);
  }
  var rest = a.m;
  var quotient = 0u;
  var exponent = a.e - b.e - 31;
  if (rest >= b.m) {
    rest -= b.m;
    quotient = 1u;
  } else {
    // a.m >= 2^31 > b.m / 2: the bit behind is set.
    rest = (rest << 1u) - b.m;
    quotient = 1u;
    exponent -= 1;
  }
  for (var i = 0u; i < 31u; i++) {
    let carry = rest >> 31u;
    rest = rest << 1u;
    quotient = quotient << 1u;
    if (carry != 0u || rest >= b.m) {
      rest -= b.m;
      quotient |= 1u;
    }
  }
  return Real(quotient, exponent);
}

// Digit by digit: two bits of the argument give one of the root.
fn real_sqrt(a: Real) -> Real {
  if (a.m == 0u) {
    return a;
  }
  let odd = (a.e & 1) != 0;
  var digits = select(vec2u(0u, a.m), vec2u(a.m << 31u, a.m >> 1u), odd);
  var rest = vec2u(0u);
  var root = 0u;
  for (var i = 0u; i < 32u; i++) {
    rest = shift_left_wide(rest, 2u) | vec2u(digits.y >> 30u, 0u);
    digits = shift_left_wide(digits, 2u);
    let trial = vec2u((root << 2u) | 1u, root >> 30u);
    root = root << 1u;
    if (rest.y > trial.y || (rest.y == trial.y && rest.x >= trial.x)) {
      rest = add_wide(rest, negate_wide(trial));
      root |= 1u;
    }
  }
  return Real(root, select(a.e - 32, a.e - 31, odd) / 2);
}

// a > b.
fn real_above(a: Real, b: Real) -> bool {
  if (a.m == 0u || b.m == 0u) {
    return b.m == 0u && a.m != 0u;
  }
  return a.e > b.e || (a.e == b.e && a.m > b.m);
}

// a > b by more than quotients of equal worth may differ by: product and quotient are truncated.
fn real_clearly_above(a: Real, b: Real) -> bool {
  const unclear = 3u;
  if (a.m == 0u || b.m == 0u || a.e < b.e || a.e > b.e + 1) {
    return real_above(a, b);
  }
  if (a.e == b.e) {
    return a.m > b.m && a.m - b.m > unclear;
  }
  let above_power = a.m - 0x80000000u;
  return above_power > unclear || 2u * above_power + (0u - b.m) > unclear;
}

// The nearest float, ties to even, subnormal ones included; the bits of infinity where it is none.
fn float_of_real(a: Real) -> u32 {
  if (a.m == 0u) {
    return 0u;
  }
  let exponent = a.e + 31;
  if (exponent > 127) {
    return 0x7f800000u;
  }
  let below = u32(max(-126 - exponent, 0));
  if (below > 24u) {
    return 0u;
  }
  let drop = 8u + below;
  let kept = select(a.m >> (drop & 31u), 0u, drop == 32u);
  let rest = select(a.m & ((1u << (drop & 31u)) - 1u), a.m, drop == 32u);
  let half = 1u << (drop - 1u);
  let up = select(0u, 1u, rest > half || (rest == half && (kept & 1u) != 0u));
  let base = select(u32(exponent + 126) << 23u, 0u, below > 0u);
  return base + kept + up;
}

// The float of a signed wide, rounded once.
fn float_of_wide(a: vec2u) -> f32 {
  let negative = is_negative(a);
  let magnitude = select(a, negate_wide(a), negative);
  let zeros = leading_zeros_wide(magnitude);
  if (zeros >= 40u) {
    return select(f32(magnitude.x), -f32(magnitude.x), negative);  // 24 bits: exact
  }
  let top = shift_left_wide(magnitude, zeros);
  // What lies below the 32 bits only breaks ties.
  let sticky = select(0u, 1u, top.x != 0u);
  let bits = float_of_real(Real(top.y | sticky, 32 - i32(zeros)));
  return bitcast<f32>(select(bits, bits | 0x80000000u, negative));
}

// The nearest half of a positive float, as a float; the bits of infinity where it is none.
fn half_of_float(bits: u32) -> u32 {
  if (bits >= 0x477ff000u) {
    return 0x7f800000u;
  }
  if (bits >= 0x38800000u) {
    return (bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u;
  }
  // Below 2^-14: multiples of 2^-24.
  let drop = 126u - min(bits >> 23u, 126u);
  if (drop > 24u) {
    return 0u;
  }
  let mantissa = (bits & 0x7fffffu) | 0x800000u;
  let kept = mantissa >> drop;
  let rest = mantissa & ((1u << drop) - 1u);
  let half = 1u << (drop - 1u);
  let steps = kept + select(0u, 1u, rest > half || (rest == half && (kept & 1u) != 0u));
  return float_of_real(Real(steps << countLeadingZeros(steps), select(-24 - i32(countLeadingZeros(steps)), 0, steps == 0u)));
}
