#include "src/cli/print_format.h"

#include <nlohmann/json.hpp>
#include <string>

#include "gtest/gtest.h"

namespace turboquant::cli {
namespace {

FactSheet Facts() {
  FactSheet facts("test/1");
  facts.Add("text", "a \"quoted\", one");
  facts.Add("number", 4.125);
  facts.Add("count", size_t{512});
  facts.Add("flag", true);
  facts.Add("list", std::vector<std::string>{"x", "y"});
  return facts;
}

TEST(PrintFormatTest, TableAlignsAndCsvQuotes) {
  EXPECT_EQ(Facts().Print(PrintFormat::kTable),
            "text    a \"quoted\", one\nnumber  4.125\ncount   512\nflag    yes\nlist    x y\n");
  EXPECT_EQ(Facts().Print(PrintFormat::kCsv),
            "name,value\ntext,\"a \"\"quoted\"\", one\"\nnumber,4.125\ncount,512\nflag,yes\n"
            "list,x y\n");
}

TEST(PrintFormatTest, JsonKeepsTypes) {
  const auto json = nlohmann::json::parse(Facts().Print(PrintFormat::kJson));
  EXPECT_EQ(json["schema"], "test/1");
  EXPECT_EQ(json["text"], "a \"quoted\", one");
  EXPECT_EQ(json["number"], 4.125);
  EXPECT_EQ(json["count"], 512);
  EXPECT_EQ(json["flag"], true);
  EXPECT_EQ(json["list"].size(), 2u);
}

TEST(PrintFormatTest, BytesThatAreNotTextDoNotBreakIt) {
  FactSheet facts("test/1");
  facts.Add("name", std::string("\xFF\xFE"));
  EXPECT_TRUE(nlohmann::json::parse(facts.Print(PrintFormat::kJson)).contains("name"));
}

TEST(PrintFormatTest, NamesAreParsed) {
  EXPECT_EQ(ParsePrintFormat("table"), PrintFormat::kTable);
  EXPECT_EQ(ParsePrintFormat("json"), PrintFormat::kJson);
  EXPECT_EQ(ParsePrintFormat("csv"), PrintFormat::kCsv);
  EXPECT_EQ(ParsePrintFormat("").error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace turboquant::cli
