// The parts of the report: what it says about each kind of rows.
#ifndef TURBOQUANT_SRC_EVAL_REPORT_SECTIONS_H_
#define TURBOQUANT_SRC_EVAL_REPORT_SECTIONS_H_

#include <string>
#include <string_view>
#include <vector>

#include "src/eval/result_output.h"
#include "src/eval/result_row.h"

namespace turboquant::eval {

// Sections of one group, as HTML.
std::string MethodSection(const RowGroup& group);
std::string CacheSection(const CacheGroup& group);
std::string AttentionSection(const AttentionGroup& group);

// Of every text, and of the prompts. Empty without rows of real models.
std::string RealModelSections(const BenchmarkResult& result);

// Over all heads: what each cache costs, by policy. Empty without caches.
std::string CacheOverview(const BenchmarkResult& result);

// A chart with its heading and caption (HTML); empty for an empty chart.
std::string Figure(const std::string& svg, std::string_view title, std::string_view caption);

// A section with charts, and the numbers underneath.
std::string ChartSection(std::string_view title, const std::string& figures,
                         const std::string& numbers);

// A folded-out table: its columns, and the cells of each row, the first of which is a name.
std::string NumbersTable(const std::vector<std::string_view>& columns,
                         const std::vector<std::vector<std::string>>& rows);

// A number of a table, or a dash.
std::string Cell(double number);

}  // namespace turboquant::eval

#endif  // TURBOQUANT_SRC_EVAL_REPORT_SECTIONS_H_
