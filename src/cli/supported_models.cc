#include "src/cli/supported_models.h"

#include <array>

namespace turboquant::cli {
namespace {

// As python/turboquant_tools/presets.py; a test compares the two.
constexpr std::array<SupportedModel, 4> kModels = {{
    {"smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct",
     "30 layers, 9 query and 3 KV heads of dim 64"},
    {"gemma3-270m", "google/gemma-3-270m",
     "18 layers, 4 query heads and 1 KV head of dim 256, sliding window"},
    {"qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct",
     "24 layers, 14 query and 2 KV heads of dim 64, biased keys"},
    {"distilgpt2", "distilbert/distilgpt2", "6 layers, 12 heads of dim 64, no rotary embedding"},
}};

}  // namespace

std::span<const SupportedModel> SupportedModels() { return kModels; }

void PrintSupportedModels(std::ostream& out) {
  for (const SupportedModel& model : kModels) {
    out << model.name << "\n  " << model.hub_id << ": " << model.description << "\n";
  }
  out << "Each is exported by name (--model-preset); so is any other decoder that docs/onnx.md\n"
         "describes, from its folder.\n";
}

}  // namespace turboquant::cli
