// The map from numbers to a chart's coordinates, and where its ticks are.
#ifndef TURBOQUANT_SRC_EVAL_SVG_AXIS_H_
#define TURBOQUANT_SRC_EVAL_SVG_AXIS_H_

#include <string>
#include <vector>

namespace turboquant::eval {

class SvgAxis {
 public:
  // Covers the numbers (on a logarithmic axis, the positive ones) and maps the smallest to `start`
  // and the largest to `end`, both in SVG units. Without numbers it covers 0 to 1 (1 to 10).
  SvgAxis(const std::vector<double>& numbers, bool logarithmic, double start, double end);

  bool Shows(double number) const;
  double Position(double number) const;

  struct Tick {
    double number;
    std::string label;
  };
  const std::vector<Tick>& ticks() const { return ticks_; }

 private:
  double Transform(double number) const;
  void PlaceLinearTicks();
  void PlaceLogarithmicTicks();

  bool logarithmic_;
  double start_;
  double end_;
  double low_ = 0.0;   // transformed
  double high_ = 1.0;  // transformed
  std::vector<Tick> ticks_;
};

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_SVG_AXIS_H_
