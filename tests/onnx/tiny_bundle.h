// Bundles of the tiny decoder that python/make_tiny_decoder.py made, and what they must give.
#ifndef TURBOQUANT_TESTS_ONNX_TINY_BUNDLE_H_
#define TURBOQUANT_TESTS_ONNX_TINY_BUNDLE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"
#include "turboquant/onnx/bundle.h"
#include "turboquant/onnx/decoder.h"
#include "turboquant/onnx/runtime.h"

namespace turboquant::test {

inline std::filesystem::path TinyFolder() {
  return std::filesystem::path(TURBOQUANT_SOURCE_DIR) / "tests/onnx/tiny";
}

inline nlohmann::json TinyGolden() {
  return nlohmann::json::parse(ReadWholeFile(TinyFolder() / "golden.json"));
}

// A bundle folder around one of the graphs, to be spoilt at will.
class TinyBundle {
 public:
  explicit TinyBundle(const std::string& graph = "plain") {
    for (const char* name : {"config.json", "tokenizer.json", "weights.bin"}) {
      std::filesystem::copy(TinyFolder() / name, folder_ / name);
    }
    std::filesystem::copy(TinyFolder() / (graph + ".onnx"), folder_ / "model.onnx");
  }

  std::string path() const { return folder_ / ""; }
  std::string operator/(const std::string& name) const { return folder_ / name; }

  void SetConfig(const char* field, const nlohmann::json& value) const {
    auto config = nlohmann::json::parse(ReadWholeFile(folder_ / "config.json"));
    config[field] = value;
    std::ofstream(folder_ / "config.json") << config;
  }

  Result<OnnxDecoder> Load(const OnnxRuntime& runtime) const {
    const Result<DecoderBundle> bundle = DecoderBundle::Open(path());
    if (!bundle) return std::unexpected(bundle.error());
    return OnnxDecoder::Load(runtime, *bundle);
  }

 private:
  TemporaryFolder folder_;
};

// Tests that run graphs are skipped where there is no ONNX Runtime.
class OnnxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<OnnxRuntime> runtime = OnnxRuntime::Load();
    if (!runtime) GTEST_SKIP() << runtime.error().message;
    runtime_.push_back(*std::move(runtime));
  }
  const OnnxRuntime& runtime() const { return runtime_.front(); }

 private:
  std::vector<OnnxRuntime> runtime_;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_ONNX_TINY_BUNDLE_H_
