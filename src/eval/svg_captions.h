// Names beside the markers of a chart.
#ifndef TURBOQUANT_SRC_EVAL_SVG_CAPTIONS_H_
#define TURBOQUANT_SRC_EVAL_SVG_CAPTIONS_H_

#include <string>
#include <vector>

namespace turboquant::eval {

// Where a marker is drawn, in pixels, and its name; nameless ones are only kept free.
struct MarkerName {
  double x = 0;
  double y = 0;
  std::string name;
};

// Pixels that names may cover.
struct CaptionFrame {
  double left = 0;
  double right = 0;
  double top = 0;
  double bottom = 0;
};

// SVG texts of those names that have room beside their marker, covering no marker and no other
// name; the first come first. Two markers of one place and name are named once.
std::string RenderCaptions(const std::vector<MarkerName>& markers, const CaptionFrame& frame);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_SVG_CAPTIONS_H_
