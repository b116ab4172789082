#include "src/eval/svg_axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace turboquant::eval {
namespace {

// 0.001, 0.01, 1, 100, 10000; further out as 1e-5.
std::string PowerLabel(double number) {
  return number >= 1e-4 && number < 1e6 ? fmt::format("{:g}", number)
                                        : fmt::format("{:.0e}", number);
}

}  // namespace

SvgAxis::SvgAxis(const std::vector<double>& numbers, bool logarithmic, double start, double end)
    : logarithmic_(logarithmic), start_(start), end_(end) {
  std::vector<double> shown;
  for (const double number : numbers) {
    if (Shows(number)) shown.push_back(Transform(number));
  }
  if (!shown.empty()) {
    const auto [least, most] = std::ranges::minmax_element(shown);
    low_ = *least;
    high_ = *most;
  }
  const double margin = high_ > low_ ? 0.04 * (high_ - low_) : 0.5;
  low_ -= margin;
  high_ += margin;
  if (logarithmic_) {
    PlaceLogarithmicTicks();
  } else {
    PlaceLinearTicks();
  }
}

bool SvgAxis::Shows(double number) const {
  return std::isfinite(number) && (!logarithmic_ || number > 0.0);
}

double SvgAxis::Transform(double number) const {
  return logarithmic_ ? std::log10(number) : number;
}

double SvgAxis::Position(double number) const {
  return start_ + (Transform(number) - low_) / (high_ - low_) * (end_ - start_);
}

// About six, at a step of 1, 2 or 5 times a power of ten.
void SvgAxis::PlaceLinearTicks() {
  const double rough = (high_ - low_) / 6.0;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10.0 * power;
  for (const double multiple : {5.0, 2.0, 1.0}) {
    if (multiple * power >= rough) step = multiple * power;
  }
  for (double i = std::ceil(low_ / step); i * step <= high_; ++i) {
    ticks_.push_back({i * step, fmt::format("{:g}", i * step)});
  }
}

// Every power of ten, or, in a narrow range, 1, 2 and 5 times it.
void SvgAxis::PlaceLogarithmicTicks() {
  const bool narrow = high_ - low_ < 2.0;
  for (double exponent = std::floor(low_); exponent <= high_; ++exponent) {
    for (const double multiple : {1.0, 2.0, 5.0}) {
      if (multiple > 1.0 && !narrow) continue;
      const double number = multiple * std::pow(10.0, exponent);
      if (std::log10(number) < low_ || std::log10(number) > high_) continue;
      ticks_.push_back({number, PowerLabel(number)});
    }
  }
}

}  // namespace turboquant::eval
