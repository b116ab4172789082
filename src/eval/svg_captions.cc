#include "src/eval/svg_captions.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>

#include "src/eval/svg_chart.h"

namespace turboquant::eval {
namespace {

constexpr double kLetter = 6.2;  // width on average, at 11 pixels
constexpr double kLine = 12;     // height of a name
constexpr double kMarker = 6;    // half the width of a marker's place

struct Box {
  double left, right, top, bottom;

  bool Overlaps(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

Box PlaceOf(const MarkerName& marker) {
  return {marker.x - kMarker, marker.x + kMarker, marker.y - kMarker, marker.y + kMarker};
}

// Beside, above or below the marker, the likeliest to be read first.
std::array<Box, 8> Places(const MarkerName& marker) {
  const double width = kLetter * static_cast<double>(marker.name.size());
  const auto box = [&](double left, double middle) {
    return Box{left, left + width, middle - kLine / 2, middle + kLine / 2};
  };
  const double beside = kMarker + 2;
  const double over = kMarker + kLine / 2;
  return {box(marker.x + beside, marker.y),
          box(marker.x - beside - width, marker.y),
          box(marker.x - width / 2, marker.y - over),
          box(marker.x - width / 2, marker.y + over),
          box(marker.x + beside, marker.y - over),
          box(marker.x + beside, marker.y + over),
          box(marker.x - beside - width, marker.y - over),
          box(marker.x - beside - width, marker.y + over)};
}

bool IsInside(const Box& box, const CaptionFrame& frame) {
  return box.left >= frame.left && box.right <= frame.right && box.top >= frame.top &&
         box.bottom <= frame.bottom;
}

bool IsRepeated(const std::vector<MarkerName>& markers, size_t number) {
  const auto same = [&](const MarkerName& other) {
    return other.x == markers[number].x && other.y == markers[number].y &&
           other.name == markers[number].name;
  };
  return std::any_of(markers.begin(), markers.begin() + static_cast<std::ptrdiff_t>(number), same);
}

}  // namespace

std::string RenderCaptions(const std::vector<MarkerName>& markers, const CaptionFrame& frame) {
  std::vector<Box> taken;
  for (const MarkerName& marker : markers) taken.push_back(PlaceOf(marker));
  std::string svg;
  for (size_t m = 0; m < markers.size(); ++m) {
    if (markers[m].name.empty() || IsRepeated(markers, m)) continue;
    for (const Box& box : Places(markers[m])) {
      const bool free =
          std::ranges::none_of(taken, [&](const Box& other) { return box.Overlaps(other); });
      if (!free || !IsInside(box, frame)) continue;
      taken.push_back(box);
      fmt::format_to(std::back_inserter(svg),
                     "<text class=\"caption\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", box.left,
                     box.bottom - 2, EscapeHtml(markers[m].name));
      break;
    }
  }
  return svg;
}

}  // namespace turboquant::eval
