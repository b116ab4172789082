#include "src/onnx/layer_damage.h"

#include <gtest/gtest.h>

#include <vector>

namespace turboquant::eval {
namespace {

// Two layers, four query heads over two KV heads of dim 2.
DecoderConfig Config() {
  DecoderConfig config;
  config.layers = 2;
  config.query_heads = 4;
  config.kv_heads = 2;
  config.head_dim = 2;
  return config;
}

RealModelRow Row() {
  RealModelRow row;
  row.layers = {{0, 0.1, 0.1}, {1, 0.1, 0.1}};
  return row;
}

// Keys (1, t) of tokens 2, 3, ... behind two sinks; those of the first head come back upside down,
// and from token 5 on also those of the second.
void AddKeys(LayerDamage& damage, size_t layer, size_t first, size_t count) {
  std::vector<float> exact;
  std::vector<float> packed;
  for (size_t t = first; t < first + count; ++t) {
    for (size_t head = 0; head < 2; ++head) {
      const float sign = head == 0 || t >= 5 ? -1.0f : 1.0f;
      exact.insert(exact.end(), {1.0f, static_cast<float>(t)});
      packed.insert(packed.end(), {1.0f, sign * static_cast<float>(t)});
    }
  }
  damage.AddKeys(layer, 2, HeadsView::TokenMajor(exact.data(), count, 2, 2),
                 HeadsView::TokenMajor(packed.data(), count, 2, 2));
}

// [4 heads × tokens × 2]; zero but for some heads, whose zeros correlate with nothing.
std::vector<float> Queries(size_t tokens, std::vector<size_t> heads) {
  std::vector<float> queries(4 * tokens * 2);
  for (const size_t head : heads) {
    for (size_t t = 0; t < tokens; ++t) queries[(head * tokens + t) * 2 + 1] = 1.0f;
  }
  return queries;
}

TEST(LayerDamageTest, QueriesMeetTheKeysOfTheirHeadThatAreBehindThem) {
  const DecoderConfig config = Config();
  LayerDamage damage(config);
  AddKeys(damage, 0, 2, 2);
  AddKeys(damage, 0, 4, 3);
  // Tokens 4 and 5 see keys 2, 3 and 2, 3, 4.
  damage.EndText(0, Queries(6, {0, 1}));
  AddKeys(damage, 1, 2, 5);
  damage.EndText(1, Queries(6, {2, 3}));
  RealModelRow row = Row();
  damage.Describe(row);
  EXPECT_DOUBLE_EQ(*row.layers[0].logit_correlation, -0.5);  // of four heads two are zero
  EXPECT_DOUBLE_EQ(*row.layers[1].logit_correlation, 0.5);
  EXPECT_DOUBLE_EQ(*row.worst_layer_logit_correlation, -0.5);
  EXPECT_FALSE(row.layers[0].kl_mean);
  EXPECT_FALSE(row.layers[0].kl_share);
}

TEST(LayerDamageTest, NoQueriesNoCorrelationAndTextsDoNotMix) {
  const DecoderConfig config = Config();
  LayerDamage damage(config);
  AddKeys(damage, 0, 2, 5);
  damage.EndText(0, {});
  RealModelRow row = Row();
  damage.Describe(row);
  EXPECT_FALSE(row.worst_layer_logit_correlation);
  // The second text packed nothing: the first one's keys are gone.
  damage.EndText(0, Queries(6, {0}));
  damage.Describe(row);
  EXPECT_FALSE(row.worst_layer_logit_correlation);
}

TEST(LayerDamageTest, SharesAreOfTheSumOverLayers) {
  const DecoderConfig config = Config();
  LayerDamage damage(config);
  LogitErrors large(1);
  large.Add(std::vector<float>{0.0f, 0.0f}, std::vector<float>{0.0f, 2.0f}, 0);
  LogitErrors none(1);
  none.Add(std::vector<float>{0.0f, 0.0f}, std::vector<float>{0.0f, 0.0f}, 0);
  damage.AddErrors(0, large);
  damage.AddErrors(1, large);
  damage.AddErrors(1, none);  // of two predictions one is right
  RealModelRow row = Row();
  damage.Describe(row);
  EXPECT_DOUBLE_EQ(*row.layers[0].kl_mean, large.kl_mean());
  EXPECT_DOUBLE_EQ(*row.layers[1].kl_mean, large.kl_mean() / 2);
  EXPECT_DOUBLE_EQ(*row.layers[0].kl_share, 2.0 / 3.0);
}

}  // namespace
}  // namespace turboquant::eval
