// Models that the exporters know by name.
#ifndef TURBOQUANT_SRC_CLI_SUPPORTED_MODELS_H_
#define TURBOQUANT_SRC_CLI_SUPPORTED_MODELS_H_

#include <ostream>
#include <span>
#include <string_view>

namespace turboquant::cli {

struct SupportedModel {
  std::string_view name;  // of the exporters' --model-preset
  std::string_view hub_id;
  std::string_view description;
};

std::span<const SupportedModel> SupportedModels();

// Of `benchmark --supported-real-models`.
void PrintSupportedModels(std::ostream& out);

}  // namespace turboquant::cli

#endif  // TURBOQUANT_SRC_CLI_SUPPORTED_MODELS_H_
