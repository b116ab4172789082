#include "src/base/random.h"

#include <bit>
#include <cassert>
#include <cmath>

namespace turboquant {
namespace {

struct Product {
  uint32_t high;
  uint32_t low;
};

Product MultiplyWide(uint32_t a, uint32_t b) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  return {static_cast<uint32_t>(product >> 32), static_cast<uint32_t>(product)};
}

// ln(x) for normal x > 0 with + - * / only: x = m · 2^e with m in [√½, √2), ln m = 2 artanh(t),
// t = (m-1)/(m+1), |t| <= 0.1716, so 13 terms leave less than 1e-21.
double PortableLog(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654752) {
    m *= 2.0;
    --exponent;
  }
  const double t = (m - 1.0) / (m + 1.0);
  const double t2 = t * t;
  double sum = 0.0;
  for (int k = 25; k >= 1; k -= 2) sum = sum * t2 + 1.0 / k;
  return 2.0 * t * sum + exponent * 0.69314718055994531;
}

template <size_t kTerms>
double Polynomial(const double (&coefficients)[kTerms], double x) {
  double value = 0.0;
  for (size_t i = kTerms; i-- > 0;) value = value * x + coefficients[i];
  return value;
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const Product p0 = MultiplyWide(0xD2511F53u, counter[0]);
    const Product p1 = MultiplyWide(0xCD9E8D57u, counter[2]);
    counter = {p1.high ^ counter[1] ^ key[0], p1.low, p0.high ^ counter[3] ^ key[1], p0.low};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

RandomBits::RandomBits(uint64_t seed, const StreamId& stream)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {
  assert(stream.layer < (1u << 20) && stream.head < (1u << 20));
  assert(stream.side < 256 && stream.stage < 256 && stream.round < 256);
  const uint64_t id =
      static_cast<uint64_t>(stream.layer) | static_cast<uint64_t>(stream.head) << 20 |
      static_cast<uint64_t>(stream.side) << 40 | static_cast<uint64_t>(stream.stage) << 48 |
      static_cast<uint64_t>(stream.round) << 56;
  counter_ = {0, 0, static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32)};
}

uint32_t RandomBits::NextWord() {
  if (next_word_ == 4) {
    block_ = Philox4x32(counter_, key_);
    if (++counter_[0] == 0) ++counter_[1];
    next_word_ = 0;
  }
  return block_[static_cast<size_t>(next_word_++)];
}

bool RandomBits::NextBit() {
  if (bits_left_ == 0) {
    bits_ = NextWord();
    bits_left_ = 32;
  }
  const bool bit = bits_ & 1u;
  bits_ >>= 1;
  --bits_left_;
  return bit;
}

double RandomBits::NextUniform() {
  const uint64_t low = NextWord();
  const uint64_t word = low | static_cast<uint64_t>(NextWord()) << 32;
  // The middle of one of 2^52 cells: never 0, never 1, symmetric about one half.
  return (static_cast<double>(word >> 12) + 0.5) * 0x1p-52;
}

double RandomBits::NextNormal() { return InverseNormal(NextUniform()); }

double InverseNormal(double p) {
  static constexpr double kA[] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                                  1.9715909503065514427e+3, 1.3731693765509461125e+4,
                                  4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                  3.3430575583588128105e+4, 2.5090809287301226727e+3};
  static constexpr double kB[] = {1.0,
                                  4.2313330701600911252e+1,
                                  6.8718700749205790830e+2,
                                  5.3941960214247511077e+3,
                                  2.1213794301586595867e+4,
                                  3.9307895800092710610e+4,
                                  2.8729085735721942674e+4,
                                  5.2264952788528545610e+3};
  static constexpr double kC[] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                  5.76949722146069140550e0,  3.64784832476320460504e0,
                                  1.27045825245236838258e0,  2.41780725177450611770e-1,
                                  2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static constexpr double kD[] = {1.0,
                                  2.05319162663775882187e0,
                                  1.67638483018380384940e0,
                                  6.89767334985100004550e-1,
                                  1.48103976427480074590e-1,
                                  1.51986665636164571966e-2,
                                  5.47593808499534494600e-4,
                                  1.05075007164441684324e-9};
  static constexpr double kE[] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                  1.78482653991729133580e0,  2.96560571828504891230e-1,
                                  2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                  2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr double kF[] = {1.0,
                                  5.99832206555887937690e-1,
                                  1.36929880922735805310e-1,
                                  1.48753612908506148525e-2,
                                  7.86869131145613259100e-4,
                                  1.84631831751005468180e-5,
                                  1.42151175831644588870e-7,
                                  2.04426310338993978564e-15};
  assert(p > 0.0 && p < 1.0);
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * Polynomial(kA, r) / Polynomial(kB, r);
  }
  const double tail = std::sqrt(-PortableLog(q < 0.0 ? p : 1.0 - p));
  const double magnitude = tail <= 5.0 ? Polynomial(kC, tail - 1.6) / Polynomial(kD, tail - 1.6)
                                       : Polynomial(kE, tail - 5.0) / Polynomial(kF, tail - 5.0);
  return q < 0.0 ? -magnitude : magnitude;
}

}  // namespace turboquant
