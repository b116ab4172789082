#include "turboquant/onnx/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/onnx/tiny_bundle.h"
#include "tests/support/expect_error.h"

namespace turboquant {
namespace {

using test::FailsWith;

class TokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<Tokenizer> tokenizer = Tokenizer::Load(test::TinyFolder() / "tokenizer.json");
    if (!tokenizer && tokenizer.error().code == ErrorCode::kUnavailable) {
      GTEST_SKIP() << tokenizer.error().message;
    }
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_.push_back(*std::move(tokenizer));
  }
  const Tokenizer& tokenizer() const { return tokenizer_.front(); }

 private:
  std::vector<Tokenizer> tokenizer_;
};

TEST_F(TokenizerTest, IdsAndTextsAreThePythonPackages) {
  EXPECT_EQ(tokenizer().vocabulary(), 300u);
  const auto golden = test::TinyGolden()["texts"];
  ASSERT_GE(golden.size(), 9u);
  for (const auto& text : golden) {
    const auto ids = tokenizer().Encode(text["text"].get<std::string>());
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ(*ids, text["ids"].get<std::vector<int64_t>>()) << text["text"];
    const auto back = tokenizer().Decode(*ids);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, text["decoded"].get<std::string>());
  }
}

// A real model's vocabulary of 49,152 over scripts, code, special tokens and odd spaces.
TEST(RealTokenizerTest, IdsAndTextsAreThePythonPackages) {
  const char* caches = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path cache =
      caches != nullptr && *caches != '\0'
          ? std::filesystem::path(caches)
          : std::filesystem::path(home == nullptr ? "" : home) / ".cache";
  const auto file = cache / "turboquant/models/smollm2-135m-instruct/tokenizer.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no SmolLM2 here: scripts/model makes it";
  const auto tokenizer = Tokenizer::Load(file);
  if (!tokenizer && tokenizer.error().code == ErrorCode::kUnavailable) {
    GTEST_SKIP() << tokenizer.error().message;
  }
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->vocabulary(), 49152u);
  const std::filesystem::path golden =
      std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "tests/onnx/smollm2_tokens.json";
  const auto texts = nlohmann::json::parse(test::ReadWholeFile(golden))["texts"];
  ASSERT_EQ(texts.size(), 26u);
  for (const auto& text : texts) {
    const auto ids = tokenizer->Encode(text["text"].get<std::string>());
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ(*ids, text["ids"].get<std::vector<int64_t>>()) << text["text"];
    const auto back = tokenizer->Decode(*ids);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, text["decoded"].get<std::string>());
  }
}

TEST_F(TokenizerTest, LongTextsNeedNoMoreThanTheirRoom) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "every token that was read; ";
  const auto ids = tokenizer().Encode(text);
  ASSERT_TRUE(ids) << ids.error().message;
  const auto back = tokenizer().Decode(*ids);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, text);
}

TEST_F(TokenizerTest, AStreamTellsTheWholeTextAndNoHalfCharacters) {
  const auto golden = test::TinyGolden();
  for (const auto& text : golden["texts"]) {
    TokenTextStream stream(tokenizer());
    std::string told;
    for (const int64_t id : text["ids"].get<std::vector<int64_t>>()) {
      const auto added = stream.Add(id);
      ASSERT_TRUE(added) << added.error().message;
      EXPECT_EQ(added->find("\xEF\xBF\xBD"), std::string::npos);
      told += *added;
    }
    EXPECT_EQ(told, text["decoded"].get<std::string>());
  }
}

TEST_F(TokenizerTest, RefusalsNameTheFileOrTheToken) {
  const test::TemporaryFolder folder;
  const auto load = [&](const std::string& text) {
    std::ofstream(folder / "tokenizer.json") << text;
    return Tokenizer::Load(folder / "tokenizer.json");
  };
  EXPECT_TRUE(FailsWith(load(""), ErrorCode::kModel, "tokenizer.json"));
  EXPECT_TRUE(FailsWith(load("{}"), ErrorCode::kModel, "tokenizer.json' is no tokenizer"));
  EXPECT_TRUE(FailsWith(load("[1, 2"), ErrorCode::kModel, "tokenizer.json' is no tokenizer"));
  EXPECT_TRUE(FailsWith(load("\xFF\xFE"), ErrorCode::kModel, "tokenizer.json"));
  EXPECT_TRUE(FailsWith(Tokenizer::Load(folder / "none.json"), ErrorCode::kModel, "none.json"));
  EXPECT_TRUE(FailsWith(tokenizer().Encode("a\xFFz"), ErrorCode::kInvalidArgument, "UTF-8"));
  EXPECT_TRUE(FailsWith(tokenizer().Decode(std::vector<int64_t>{-3}), ErrorCode::kInvalidArgument,
                        "token -3"));
}

}  // namespace
}  // namespace turboquant
