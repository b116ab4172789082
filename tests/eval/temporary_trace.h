// A trace of a test's own, written to a temporary file that goes with it.
#ifndef TURBOQUANT_TESTS_EVAL_TEMPORARY_TRACE_H_
#define TURBOQUANT_TESTS_EVAL_TEMPORARY_TRACE_H_

#include <unistd.h>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_rows.h"
#include "turboquant/safetensors.h"

namespace turboquant::test {

class TemporaryTrace {
 public:
  TemporaryTrace(const std::string& name, const Rows& keys, const Rows& values, const Rows& queries,
                 const StringMap& metadata = {})
      : path_(std::filesystem::temp_directory_path() /
              (name + std::to_string(::getpid()) + ".safetensors")) {
    const auto view = [](const char* tensor, const Rows& rows) {
      TensorView v;
      v.name = tensor;
      v.type = TensorType::kF32;
      v.shape = {rows.rows, rows.dim};
      v.bytes = std::as_bytes(std::span(rows.values));
      return v;
    };
    const std::vector<TensorView> tensors = {view("keys", keys), view("values", values),
                                             view("queries", queries)};
    const auto written = WriteSafetensors(path_, tensors, metadata);
    EXPECT_TRUE(written.has_value()) << written.error().message;
  }
  ~TemporaryTrace() { std::filesystem::remove(path_); }
  TemporaryTrace(const TemporaryTrace&) = delete;
  TemporaryTrace& operator=(const TemporaryTrace&) = delete;

  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace turboquant::test

#endif  // TURBOQUANT_TESTS_EVAL_TEMPORARY_TRACE_H_
