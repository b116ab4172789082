// Benchmark results as text: JSON and CSV for programs, tables for people.
#ifndef TURBOQUANT_SRC_EVAL_RESULT_OUTPUT_H_
#define TURBOQUANT_SRC_EVAL_RESULT_OUTPUT_H_

#include <string>
#include <vector>

#include "src/eval/result_row.h"

namespace turboquant::eval {

// One document as docs/benchmark.schema.json describes it, with a final newline. What a row does
// not have is null.
std::string ToJson(const BenchmarkResult& result);

// A header line and a line for each row, without error_by_position. Absent fields are empty. Rows
// of several kinds share the columns of the fields that they share.
std::string ToCsv(const BenchmarkResult& result);

// A table for every group of rows, with what the columns mean underneath.
std::string ToTable(const BenchmarkResult& result);

// The part of it about real models.
std::string RealModelTables(const BenchmarkResult& result);

// The three layers with the largest shares of the damage, and the lowest correlation: one sentence
// without its stop. Empty where they were not measured.
std::string DamageSentence(const RealModelRow& row);

// Rows that stand together in tables and reports.
template <class Row>
struct GroupOf {
  std::string title;
  std::vector<const Row*> rows;  // of the result, which must outlive the group
};
using RowGroup = GroupOf<BenchmarkRow>;        // of one source and dim
using CacheGroup = GroupOf<CacheRow>;          // of one head of a trace
using AttentionGroup = GroupOf<AttentionRow>;  // of one shape, over all lengths
std::vector<RowGroup> GroupRows(const BenchmarkResult& result);
std::vector<CacheGroup> GroupCaches(const BenchmarkResult& result);
std::vector<AttentionGroup> GroupAttention(const BenchmarkResult& result);

// "mse", "mse (paper)": a method and its policy where that is not the default.
std::string SeriesName(const BenchmarkRow& row);

// "balanced K4V4, 4 + 64 exact, diagonal" or "q4_0-hadamard, 4 + 64 exact": sinks + window, map.
std::string CacheName(const CacheRow& row);

// "balanced K4V4, diagonal".
std::string CacheName(const AttentionRow& row);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_RESULT_OUTPUT_H_
