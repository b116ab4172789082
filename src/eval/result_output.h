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

// A header line and a line for each row, without error_by_position. Absent fields are empty.
std::string ToCsv(const BenchmarkResult& result);

// A table for every source and dim, with what the columns mean underneath.
std::string ToTable(const BenchmarkResult& result);

// Rows of one source and dim stand together in tables and reports.
struct RowGroup {
  std::string title;
  std::vector<const BenchmarkRow*> rows;  // of the result, which must outlive the group
};
std::vector<RowGroup> GroupRows(const BenchmarkResult& result);

// "mse", "mse (paper)": a method and its policy where that is not the default.
std::string SeriesName(const BenchmarkRow& row);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_RESULT_OUTPUT_H_
