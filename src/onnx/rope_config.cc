#include "src/onnx/rope_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/failure.h"
#include "src/base/try.h"

namespace turboquant {
namespace {

// Families that pair neighbouring coordinates, some behind a permutation of their own: better no
// frames than wrong ones.
constexpr std::array<std::string_view, 6> kOtherPairing = {"gptj",    "codegen", "cohere",
                                                           "cohere2", "glm",     "glm4"};

Result<double> Required(const ConfigFields& fields, std::string_view name) {
  TQ_TRY(const std::optional<double> number, fields.Positive(name));
  if (!number) return Fail(ErrorCode::kModel, fields.where(), " has no ", name);
  return *number;
}

// Llama 3's: long wavelengths are slowed down by `factor`, short ones stay, in between they blend.
Result<void> ScaleAsLlama3(const ConfigFields& scaling, std::vector<double>& frequencies) {
  TQ_TRY(const double factor, Required(scaling, "factor"));
  TQ_TRY(const double low, Required(scaling, "low_freq_factor"));
  TQ_TRY(const double high, Required(scaling, "high_freq_factor"));
  TQ_TRY(const double old_positions, Required(scaling, "original_max_position_embeddings"));
  if (high <= low) {
    return Fail(ErrorCode::kModel, scaling.where(), ": high_freq_factor must be above ", low,
                ", got ", high);
  }
  for (double& frequency : frequencies) {
    const double turns = old_positions * frequency / (2.0 * std::numbers::pi);
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    frequency *= kept + (1.0 - kept) / factor;
  }
  return {};
}

// False where the scaling is of a type that frames do not know.
Result<bool> Scale(const std::optional<ConfigFields>& scaling, std::vector<double>& frequencies,
                   std::string& note) {
  if (!scaling) return true;
  TQ_TRY(std::optional<std::string> type, scaling->Text("rope_type"));
  if (!type) {
    TQ_TRY(type, scaling->Text("type"));
  }
  if (!type || *type == "default") return true;
  if (*type == "linear") {
    TQ_TRY(const double factor, Required(*scaling, "factor"));
    for (double& frequency : frequencies) frequency /= factor;
    return true;
  }
  if (*type == "llama3") {
    TQ_CHECK(ScaleAsLlama3(*scaling, frequencies));
    return true;
  }
  note = "rope_scaling of type \"" + type->substr(0, 40) + "\" has no page frames";
  return false;
}

// Layers that see a sliding window and turn with rope_local_base_freq (Gemma 3).
Result<std::vector<bool>> LocalLayers(const ConfigFields& fields, size_t layers) {
  std::vector<bool> local(layers, false);
  if (!fields.Has("rope_local_base_freq")) return local;
  TQ_TRY(const std::vector<std::string> types, fields.Texts("layer_types"));
  if (!types.empty() && types.size() != layers) {
    return Fail(ErrorCode::kModel, fields.where(), ": layer_types has ", types.size(),
                " entries for ", layers, " layers");
  }
  TQ_TRY(const std::optional<size_t> pattern,
         fields.Whole({"sliding_window_pattern", "_sliding_window_pattern"}, 1, layers + 1));
  if (types.empty() && !pattern) {
    return Fail(ErrorCode::kModel, fields.where(),
                " has rope_local_base_freq but neither layer_types nor sliding_window_pattern");
  }
  for (size_t l = 0; l < layers; ++l) {
    local[l] = types.empty() ? (l + 1) % *pattern != 0 : types[l] == "sliding_attention";
  }
  return local;
}

Result<size_t> RotaryDim(const ConfigFields& fields, const std::optional<ConfigFields>& parameters,
                         size_t head_dim) {
  TQ_TRY(std::optional<double> factor, fields.Positive("partial_rotary_factor"));
  if (!factor && parameters) {
    TQ_TRY(factor, parameters->Positive("partial_rotary_factor"));
  }
  if (!factor) return head_dim;
  const auto rotary = static_cast<size_t>(*factor * static_cast<double>(head_dim));
  if (*factor > 1.0 || rotary < 2 || rotary % 2 != 0) {
    return Fail(ErrorCode::kModel, fields.where(), ": partial_rotary_factor ", *factor,
                " gives no even number of the ", head_dim, " coordinates");
  }
  return rotary;
}

}  // namespace

Result<void> ReadRope(const ConfigFields& fields, DecoderConfig& config) {
  // One object in newer files, single fields in older ones.
  TQ_TRY(const std::optional<ConfigFields> parameters, fields.Object("rope_parameters"));
  TQ_TRY(std::optional<ConfigFields> scaling, fields.Object("rope_scaling"));
  TQ_TRY(std::optional<double> theta, fields.Positive("rope_theta"));
  if (parameters) {
    if (!theta) {
      TQ_TRY(theta, parameters->Positive("rope_theta"));
    }
    if (!scaling) scaling = parameters;
  }
  if (!theta) {
    config.rope_note = "config.json has no rope_theta, so keys have no page frames";
    return {};
  }
  if (std::ranges::find(kOtherPairing, config.model_type) != kOtherPairing.end()) {
    config.rope_note = "RoPE of " + config.model_type + " models has no page frames";
    return {};
  }
  TQ_TRY(const size_t rotary_dim, RotaryDim(fields, parameters, config.head_dim));
  if (rotary_dim % 2 != 0) {
    return Fail(ErrorCode::kModel, fields.where(), ": RoPE needs an even head_dim, got ",
                config.head_dim);
  }
  RopeParameters global = RopeParameters::FromTheta(*theta, rotary_dim);
  TQ_TRY(const bool known, Scale(scaling, global.inverse_frequencies, config.rope_note));
  if (!known) return {};
  TQ_TRY(const std::vector<bool> local, LocalLayers(fields, config.layers));
  TQ_TRY(const std::optional<double> local_theta, fields.Positive("rope_local_base_freq"));
  for (const bool is_local : local) {
    config.rope.push_back(is_local ? RopeParameters::FromTheta(*local_theta, rotary_dim) : global);
  }
  return {};
}

}  // namespace turboquant
