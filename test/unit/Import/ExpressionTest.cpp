//===- ExpressionTest.cpp - Expressions over config fields ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Expression.h"
#include "gtest/gtest.h"
#include <limits>

using namespace llvm;
using namespace mlir::moe;

namespace {

Names getNames() {
  Names names;
  names.set("E", int64_t(64));
  names.set("k", int64_t(8));
  names.set("scale", 2.5);
  names.set("dtype", std::string("bf16"));
  names.set("norm", false);
  names.set("dense", std::vector<int64_t>{0, 3});
  names.set("nothing", std::vector<int64_t>());
  names.set("kinds", std::vector<std::string>{"attention", "moe"});
  return names;
}

/// The value as text, or the error.
std::string evaluate(StringRef expression) {
  Expected<mlir::moe::Value> value = evaluateExpression(expression, getNames());
  if (!value)
    return "error: " + toString(value.takeError());
  return formatValue(*value);
}

TEST(Expression, ReadsLiterals) {
  EXPECT_EQ(evaluate("12"), "12");
  EXPECT_EQ(evaluate(" -3 "), "-3");
  EXPECT_EQ(evaluate("0.5"), "0.5");
  EXPECT_EQ(evaluate("-2.0"), "-2.0");
  EXPECT_EQ(evaluate("1.0e-5"), "1.0e-05");
  EXPECT_EQ(evaluate("'text with \" in it'"), "text with \" in it");
  EXPECT_EQ(evaluate("true"), "true");
}

TEST(Expression, BindsAsInC) {
  EXPECT_EQ(evaluate("2 + 3 * 4"), "14");
  EXPECT_EQ(evaluate("(2 + 3) * 4"), "20");
  EXPECT_EQ(evaluate("20 / 2 / 5"), "2");
  EXPECT_EQ(evaluate("10 - 3 - 2"), "5");
  EXPECT_EQ(evaluate("1 + 1 == 2 && 7 % 4 == 3"), "true");
  EXPECT_EQ(evaluate("true || false && false"), "true");
  EXPECT_EQ(evaluate("!true || true"), "true");
  EXPECT_EQ(evaluate("false ? 1 : true ? 2 : 3"), "2");
  EXPECT_EQ(evaluate("-7 / 2"), "-3");
  EXPECT_EQ(evaluate("-7 % 2"), "-1");
}

TEST(Expression, ReadsNames) {
  EXPECT_EQ(evaluate("E * k"), "512");
  EXPECT_EQ(evaluate("scale"), "2.5");
  EXPECT_EQ(evaluate("dense"), "[0, 3]");
  EXPECT_EQ(evaluate("integer"),
            "error: the expression 'integer': there is no value named "
            "'integer'");
}

TEST(Expression, Compares) {
  EXPECT_EQ(evaluate("dtype != 'f32'"), "true");
  EXPECT_EQ(evaluate("norm == false"), "true");
  EXPECT_EQ(evaluate("scale > 2"), "true");
  EXPECT_EQ(evaluate("E == 64.0"), "true");
  EXPECT_EQ(evaluate("8 <= k"), "true");
  EXPECT_EQ(evaluate("9 <= k"), "false");
  // As doubles the two are equal.
  EXPECT_EQ(evaluate("9007199254740993 > 9007199254740992"), "true");
  EXPECT_EQ(evaluate("3 in dense"), "true");
  EXPECT_EQ(evaluate("!(1 in dense)"), "true");
  EXPECT_EQ(evaluate("1 in nothing"), "false");
}

TEST(Expression, ReadsLists) {
  EXPECT_EQ(evaluate("dense[1]"), "3");
  EXPECT_EQ(evaluate("kinds[k - 7] == 'moe'"), "true");
  EXPECT_EQ(evaluate("dtype[0]"), "b");
  EXPECT_EQ(evaluate("-dense[1] + 1"), "-2");
  EXPECT_EQ(evaluate("kinds[1][2]"), "e");
  EXPECT_EQ(evaluate("size(kinds) + size(dtype) + size(nothing)"), "6");
  EXPECT_EQ(evaluate("'moe' in kinds && !('mlp' in kinds)"), "true");
  EXPECT_EQ(evaluate("false && dense[9] == 1"), "false");
  EXPECT_EQ(evaluate("kinds"), "[attention, moe]");
}

TEST(Expression, RefusesWrongElements) {
  EXPECT_NE(evaluate("dense[2]").find("no element 2 in a list of 2"),
            std::string::npos);
  EXPECT_NE(evaluate("dtype[-1]").find("no element -1 in a text of 4"),
            std::string::npos);
  EXPECT_NE(
      evaluate("E[0]").find("'[]' needs a list or a text, not an integer"),
      std::string::npos);
  EXPECT_NE(evaluate("dense['a']").find("'[]' needs an integer, not a text"),
            std::string::npos);
  EXPECT_NE(evaluate("size(k)").find("'size' needs a list or a text"),
            std::string::npos);
  EXPECT_NE(evaluate("dense[0").find("a ']' is missing"), std::string::npos);
  EXPECT_NE(evaluate("size(dense").find("a ')' is missing"), std::string::npos);
  EXPECT_NE(evaluate("size").find("no value named 'size'"), std::string::npos);
}

TEST(Expression, DoesNotEvaluateWhatIsNotNeeded) {
  EXPECT_EQ(evaluate("false && 1 / 0 == 1"), "false");
  EXPECT_EQ(evaluate("true || missing"), "true");
  EXPECT_EQ(evaluate("true ? 1 : 1 / 0"), "1");
  EXPECT_EQ(evaluate("false ? missing + 1 : 2"), "2");
  EXPECT_EQ(evaluate("false && (true || missing && 1 / 0 == 0)"), "false");
}

TEST(Expression, RefusesWrongTypes) {
  auto message = [](StringRef expression) {
    return evaluate(expression)
        .substr(("error: the expression '" + expression + "': ").str().size());
  };
  EXPECT_EQ(message("E + scale"),
            "'+' needs two integers, not an integer and a number with a "
            "fraction");
  EXPECT_EQ(message("dtype * 2"), "'*' needs two integers, not a text and an "
                                  "integer");
  EXPECT_EQ(message("E && norm"), "'&&' needs true or false, not an integer");
  EXPECT_EQ(message("E ? 1 : 2"), "'?:' needs true or false, not an integer");
  EXPECT_EQ(message("dtype == 1"), "'==' cannot compare a text and an integer");
  EXPECT_EQ(message("dense == dense"), "'==' cannot compare a list and a list");
  EXPECT_EQ(message("dtype < 'f'"), "'<' needs two numbers, not a text and a "
                                    "text");
  EXPECT_EQ(message("1 in E"), "'in' needs a list, not an integer");
  EXPECT_EQ(message("-dtype"), "'-' needs two integers, not an integer and a "
                               "text");
}

TEST(Expression, RefusesOverflow) {
  EXPECT_EQ(evaluate("9223372036854775807"), "9223372036854775807");
  for (StringRef expression :
       {"9223372036854775807 + 1", "-9223372036854775807 - 2",
        "9223372036854775807 * 2", "(-9223372036854775807 - 1) / -1",
        "(-9223372036854775807 - 1) % -1"})
    EXPECT_NE(evaluate(expression).find("has more than 64 bits"),
              std::string::npos)
        << expression.str();
  EXPECT_NE(evaluate("9223372036854775808").find("is no number"),
            std::string::npos);
  EXPECT_NE(evaluate("E / (k - 8)").find("division of 64 by 0"),
            std::string::npos);
}

TEST(Expression, RefusesWrongSyntax) {
  for (StringRef expression : {"",
                               "1 +",
                               "(1",
                               "1)",
                               "1 2",
                               "E k",
                               "'text",
                               "1 ? 2",
                               "true ? 1",
                               "* 1",
                               "1 == 1 == true",
                               "!!true",
                               "--1",
                               "1..2",
                               "1e5",
                               "0x10",
                               "1_000",
                               "@",
                               "in",
                               "E in",
                               "&& true",
                               "E & k",
                               "\x80"}) {
    Expected<mlir::moe::Value> value =
        evaluateExpression(expression, getNames());
    if (!value)
      consumeError(value.takeError());
    else
      ADD_FAILURE() << expression.str() << " is " << formatValue(*value);
  }
}

TEST(Expression, SurvivesDeepNesting) {
  std::string open(100'000, '(');
  EXPECT_NE(evaluate(open).find("levels of brackets"), std::string::npos);
  EXPECT_NE(evaluate("false && " + open).find("levels of brackets"),
            std::string::npos);
  std::string minus(100'000, '-');
  EXPECT_NE(evaluate(minus + "1").find("error"), std::string::npos);
  std::string choices;
  for (int i = 0; i < 10'000; ++i)
    choices += "true ? 1 : ";
  EXPECT_NE(evaluate(choices + "1").find("error"), std::string::npos);
}

TEST(Expression, NeedsConditions) {
  Expected<bool> holds = evaluateCondition("k <= E", getNames());
  ASSERT_TRUE(static_cast<bool>(holds));
  EXPECT_TRUE(*holds);
  Expected<bool> number = evaluateCondition("k", getNames());
  ASSERT_FALSE(static_cast<bool>(number));
  EXPECT_EQ(toString(number.takeError()),
            "the expression 'k' is 8, but must be true or false");
}

TEST(Expression, DescribesItsNames) {
  EXPECT_EQ(describeNames("k <= E && k > 0 && 'E' != dtype", getNames()),
            "k = 8, E = 64, dtype = bf16");
  EXPECT_EQ(describeNames("1 < 2", getNames()), "");
  EXPECT_EQ(describeNames("'unfinished", getNames()), "");
}

TEST(Expression, FormatsNumbersForTheIR) {
  EXPECT_EQ(formatValue(2.827), "2.827");
  EXPECT_EQ(formatValue(1e-20), "1.0e-20");
  EXPECT_EQ(formatValue(1.5e300), "1.5e+300");
  EXPECT_EQ(formatValue(1.0 / 3), "0.3333333333333333");
  EXPECT_EQ(formatValue(64.0), "64.0");
  EXPECT_EQ(formatValue(int64_t(64)), "64");
}

TEST(Expression, KnowsNames) {
  EXPECT_TRUE(isValidName("num_experts"));
  EXPECT_TRUE(isValidName("_x1"));
  for (StringRef name : {"", "1x", "a-b", "a.b", "in", "true", "é"})
    EXPECT_FALSE(isValidName(name)) << name.str();
}

} // namespace
