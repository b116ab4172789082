#include "turboquant/onnx/decoder.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "src/base/failure.h"
#include "src/base/half.h"
#include "src/base/try.h"
#include "src/onnx/decoder_contract.h"
#include "src/onnx/session.h"

namespace turboquant {

struct OnnxDecoder::State {
  OnnxRuntime runtime;
  DecoderConfig config;
  std::string file;  // for messages
  ort::Session session;
  DecoderContract contract;

  // The present of a past becomes the input, the other half of its memory the output.
  Result<void> BindPast(size_t tokens, DecoderPast& past, ort::Run& run) const;
};

namespace {

using Shape2 = std::array<int64_t, 2>;
using Shape4 = std::array<int64_t, 4>;

int64_t Size(size_t size) { return static_cast<int64_t>(size); }

std::string_view Name(RowType type) { return type == RowType::kF16 ? " f16" : " f32"; }

// Integer inputs of a step, alive until it has run.
struct TokenInputs {
  std::vector<int64_t> ids;
  std::vector<int64_t> mask;
  std::vector<int64_t> positions;
  std::vector<int64_t> types;
  std::vector<int64_t> cache_positions;
  bool use_cache = false;
};

TokenInputs MakeTokenInputs(std::span<const int64_t> tokens, size_t past, uint64_t first) {
  TokenInputs inputs;
  inputs.ids.assign(tokens.begin(), tokens.end());
  inputs.mask.assign(past + tokens.size(), 1);
  inputs.types.assign(tokens.size(), 0);
  inputs.positions.resize(tokens.size());
  std::iota(inputs.positions.begin(), inputs.positions.end(),
            static_cast<int64_t>(first) + Size(past));
  // Where the rows go in the cache, whatever RoPE is told.
  inputs.cache_positions.resize(tokens.size());
  std::iota(inputs.cache_positions.begin(), inputs.cache_positions.end(), Size(past));
  inputs.use_cache = past > 0;
  return inputs;
}

Result<void> BindTokens(const DecoderContract& contract, TokenInputs& inputs, ort::Run& run) {
  const Shape2 shape = {1, Size(inputs.ids.size())};
  const auto bind = [&](const char* name, std::span<const int64_t> sizes,
                        std::vector<int64_t>& numbers) {
    return run.BindInput(name, OnnxElement::kI64, sizes, numbers.data());
  };
  TQ_CHECK(bind("input_ids", shape, inputs.ids));
  if (contract.attention_mask) {
    const Shape2 whole = {1, Size(inputs.mask.size())};
    TQ_CHECK(bind("attention_mask", whole, inputs.mask));
  }
  if (contract.position_ids) TQ_CHECK(bind("position_ids", shape, inputs.positions));
  if (contract.token_type_ids) TQ_CHECK(bind("token_type_ids", shape, inputs.types));
  if (contract.cache_position) {
    const auto sizes = std::span(shape).last(*contract.cache_position);
    TQ_CHECK(bind("cache_position", sizes, inputs.cache_positions));
  }
  if (contract.use_cache_branch) {
    constexpr std::array<int64_t, 1> kOne = {1};
    TQ_CHECK(run.BindInput("use_cache_branch", OnnxElement::kBool,
                           std::span(kOne).first(*contract.use_cache_branch), &inputs.use_cache));
  }
  return {};
}

// An output as f32, whatever the graph gives.
class FloatOutput {
 public:
  Result<void> Bind(const std::string& name, OnnxElement element, std::span<const int64_t> shape,
                    std::vector<float>& numbers, ort::Run& run) {
    numbers.resize(std::accumulate(shape.begin(), shape.end(), size_t{1},
                                   [](size_t a, int64_t b) { return a * static_cast<size_t>(b); }));
    numbers_ = &numbers;
    if (element == OnnxElement::kF32) return run.BindOutput(name, element, shape, numbers.data());
    halves_.resize(numbers.size());
    return run.BindOutput(name, element, shape, halves_.data());
  }

  void Finish() {
    for (size_t i = 0; i < halves_.size(); ++i) (*numbers_)[i] = F16ToF32(halves_[i]);
  }

 private:
  std::vector<float>* numbers_ = nullptr;
  std::vector<Float16> halves_;
};

Result<void> CheckStep(const OnnxDecoder::State& state, std::span<const int64_t> tokens,
                       const DecoderStepOptions& options, const DecoderPast& past) {
  if (tokens.empty()) return Fail(ErrorCode::kInvalidArgument, "a step needs at least one token");
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] < 0 || tokens[t] >= Size(state.contract.vocabulary)) {
      return Fail(ErrorCode::kInvalidArgument, "token ", t, " is ", tokens[t],
                  ", the vocabulary has ", state.contract.vocabulary);
    }
  }
  const RowType decoder_type =
      state.contract.past_element == OnnxElement::kF16 ? RowType::kF16 : RowType::kF32;
  const HeadsView keys = past.layers() > 0 ? past.keys(0) : HeadsView();
  if (past.layers() != state.config.layers || keys.heads != state.config.kv_heads ||
      keys.dim != state.config.head_dim || keys.type != decoder_type) {
    return Fail(ErrorCode::kDimensionMismatch, "the past has ", past.layers(), " layers of ",
                keys.heads, " × ", keys.dim, Name(keys.type), ", the decoder ", state.config.layers,
                " of ", state.config.kv_heads, " × ", state.config.head_dim, Name(decoder_type));
  }
  // A position beyond the tables of a graph would fail inside it, or wrap.
  constexpr uint64_t kNoLimit = uint64_t{1} << 31;
  const uint64_t limit = state.config.max_positions.value_or(kNoLimit);
  const uint64_t needed = past.tokens() + tokens.size();
  if (options.first_position > limit || needed > limit - options.first_position) {
    return Fail(ErrorCode::kInvalidArgument, "positions ", options.first_position, " to ",
                options.first_position + needed - 1, " do not fit the ", limit,
                " of the configuration");
  }
  if (options.queries && !state.contract.queries) {
    return Fail(ErrorCode::kInvalidArgument, "'", state.file, "' has no outputs query.{layer}");
  }
  return {};
}

}  // namespace

Result<void> OnnxDecoder::State::BindPast(size_t tokens, DecoderPast& past, ort::Run& run) const {
  const size_t total = past.tokens() + tokens;
  const OnnxElement element = contract.past_element;
  const Shape4 before = {1, Size(config.kv_heads), Size(past.tokens()), Size(config.head_dim)};
  const Shape4 after = {1, Size(config.kv_heads), Size(total), Size(config.head_dim)};
  const size_t bytes = config.kv_heads * total * config.head_dim * ort::ElementBytes(element);
  static std::byte nothing{};  // an empty past has no memory, but wants an address
  const auto bind = [&](const std::string& from, std::vector<std::byte>& held,
                        const std::string& to, std::vector<std::byte>& room) -> Result<void> {
    void* rows = past.tokens() == 0 ? &nothing : held.data();
    TQ_CHECK(run.BindInput(from, element, before, rows));
    room.resize(bytes);
    return run.BindOutput(to, element, after, room.data());
  };
  for (size_t l = 0; l < config.layers; ++l) {
    const DecoderLayerNames& names = contract.layers[l];
    DecoderPast::Layer& layer = past.layers_[l];
    TQ_CHECK(bind(names.past_key, layer.present_keys, names.present_key, layer.past_keys));
    TQ_CHECK(bind(names.past_value, layer.present_values, names.present_value, layer.past_values));
  }
  return {};
}

Result<OnnxDecoder> OnnxDecoder::Load(const OnnxRuntime& runtime, const DecoderBundle& bundle,
                                      const OnnxDecoderOptions& options) {
  if (options.threads < 1 || options.threads > 1024) {
    return Fail(ErrorCode::kInvalidArgument, "threads must be 1 to 1024, got ", options.threads);
  }
  const OrtApi& api = *runtime.state().api;
  TQ_TRY(ort::Session session, ort::OpenSession(runtime, bundle.decoder(), options.threads));
  TQ_TRY(const std::vector<OnnxTensor> inputs, ort::Inputs(api, *session));
  TQ_TRY(const std::vector<OnnxTensor> outputs, ort::Outputs(api, *session));
  Result<DecoderContract> contract = MatchContract(inputs, outputs, bundle.config());
  if (!contract) {
    return Fail(contract.error().code, "'", bundle.decoder().native(),
                "': ", contract.error().message);
  }
  return OnnxDecoder(
      std::make_shared<const State>(State{runtime, bundle.config(), bundle.decoder().native(),
                                          std::move(session), *std::move(contract)}));
}

const DecoderConfig& OnnxDecoder::config() const { return state_->config; }

size_t OnnxDecoder::vocabulary() const { return state_->contract.vocabulary; }

bool OnnxDecoder::has_queries() const { return state_->contract.queries; }

RowType OnnxDecoder::past_type() const {
  return state_->contract.past_element == OnnxElement::kF16 ? RowType::kF16 : RowType::kF32;
}

DecoderPast OnnxDecoder::EmptyPast() const {
  const DecoderConfig& config = state_->config;
  return {config.layers, config.kv_heads, config.head_dim, past_type()};
}

Result<void> OnnxDecoder::Step(std::span<const int64_t> tokens, const DecoderStepOptions& options,
                               DecoderPast& past, DecoderStep& step) const {
  TQ_CHECK(CheckStep(*state_, tokens, options, past));
  const DecoderContract& contract = state_->contract;
  const DecoderConfig& config = state_->config;
  TQ_TRY(ort::Run run, ort::Run::Create(*state_->runtime.state().api, *state_->session));
  TokenInputs inputs = MakeTokenInputs(tokens, past.tokens(), options.first_position);
  TQ_CHECK(BindTokens(contract, inputs, run));

  TQ_CHECK(state_->BindPast(tokens.size(), past, run));
  std::vector<FloatOutput> floats(1 + (options.queries ? config.layers : 0));
  const std::array<int64_t, 3> logits = {1, Size(tokens.size()), Size(contract.vocabulary)};
  TQ_CHECK(floats[0].Bind("logits", contract.logits_element, logits, step.logits, run));
  step.queries.resize(floats.size() - 1);
  const Shape4 rows = {1, Size(config.query_heads), Size(tokens.size()), Size(config.head_dim)};
  for (size_t l = 0; l < step.queries.size(); ++l) {
    TQ_CHECK(floats[1 + l].Bind(contract.layers[l].query, contract.query_element, rows,
                                step.queries[l], run));
  }

  if (Result<void> ran = run.Go(); !ran) {
    return Fail(ran.error().code, "'", state_->file, "': ", ran.error().message);
  }
  for (FloatOutput& output : floats) output.Finish();
  for (DecoderPast::Layer& layer : past.layers_) {
    std::swap(layer.present_keys, layer.past_keys);
    std::swap(layer.present_values, layer.past_values);
  }
  past.tokens_ += tokens.size();
  return {};
}

}  // namespace turboquant
