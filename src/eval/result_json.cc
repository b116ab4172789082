#include <nlohmann/json.hpp>

#include "src/eval/result_output.h"

namespace turboquant::eval {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json JsonField(const T& field) {
  return field;
}

template <class T>
Json JsonField(const std::optional<T>& field) {
  return field ? Json(*field) : Json(nullptr);
}

Json JsonPositions(const std::vector<PositionRow>& positions) {
  Json json = Json::array();
  for (const PositionRow& position : positions) {
    json.push_back({{"first", position.first},
                    {"last", position.last},
                    {"queries", position.queries},
                    {"softmax_kl", JsonField(position.softmax_kl)},
                    {"output_nmse", JsonField(position.output_nmse)},
                    {"key_nmse", JsonField(position.key_nmse)}});
  }
  return json;
}

Json JsonLayers(const std::vector<LayerErrors>& layers) {
  Json json = Json::array();
  for (const LayerErrors& layer : layers) {
    json.push_back({{"layer", layer.layer},
                    {"key_nmse", layer.key_nmse},
                    {"value_nmse", layer.value_nmse},
                    {"kl_mean", JsonField(layer.kl_mean)},
                    {"kl_share", JsonField(layer.kl_share)},
                    {"logit_correlation", JsonField(layer.logit_correlation)}});
  }
  return json;
}

Json JsonSweep(const SweepRanking& ranking) {
  Json json;
  json["gates"] = {{"min_token_match", JsonField(ranking.gates.min_token_match)},
                   {"min_top_k_agreement", JsonField(ranking.gates.min_top_k_agreement)},
                   {"max_kl", JsonField(ranking.gates.max_kl)}};
  json["ranking"] = Json::array();
  for (const SweepEntry& entry : ranking.entries) {
    json["ranking"].push_back({{"name", entry.name},
                               {"passes", entry.missed.empty()},
                               {"missed", entry.missed},
                               {"bytes_per_token", entry.bytes_per_token},
                               {"compression_vs_f16", entry.compression_vs_f16},
                               {"kl_mean", JsonField(entry.kl_mean)},
                               {"top_k_agreement", JsonField(entry.top_k_agreement)},
                               {"token_match_rate", JsonField(entry.token_match_rate)},
                               {"perplexity_change", JsonField(entry.perplexity_change)}});
  }
  return json;
}

template <class Row>
Json JsonRow(const Row& row) {
  Json json;
  VisitFields(row, [&](const char* name, const auto& field) { json[name] = JsonField(field); });
  if constexpr (requires { row.error_by_position; }) {
    json["error_by_position"] = JsonPositions(row.error_by_position);
  }
  if constexpr (requires { row.layers; }) json["layers"] = JsonLayers(row.layers);
  return json;
}

}  // namespace

std::string ToJson(const BenchmarkResult& result) {
  Json json;
  json["schema"] = "turboquant.benchmark/1";
  json["workload"] = result.workload;
  json["quick"] = result.quick;
  json["seed"] = result.seed;
  json["machine"] = {{"cpu", result.machine.cpu},
                     {"cores", result.machine.cores},
                     {"best_target", result.machine.best_target},
                     {"compiler", result.machine.compiler},
                     {"version", result.machine.version}};
  json["rows"] = Json::array();
  for (const BenchmarkRow& row : result.rows) json["rows"].push_back(JsonRow(row));
  for (const CacheRow& row : result.cache_rows) json["rows"].push_back(JsonRow(row));
  for (const AttentionRow& row : result.attention_rows) json["rows"].push_back(JsonRow(row));
  for (const RealModelRow& row : result.real_model_rows) json["rows"].push_back(JsonRow(row));
  if (result.sweep) json["sweep"] = JsonSweep(*result.sweep);
  json["left_out"] = Json::array();
  for (const LeftOut& left_out : result.left_out) {
    json["left_out"].push_back(
        {{"method", left_out.method}, {"dim", left_out.dim}, {"reason", left_out.reason}});
  }
  // Names of files may hold bytes that are not UTF-8; they must not make the writer throw.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace turboquant::eval
