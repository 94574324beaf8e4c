//===- FamilyTest.cpp - Family files and what they read ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Family.h"
#include "gtest/gtest.h"

using namespace llvm;
using namespace mlir::moe;

namespace {

constexpr StringLiteral kHeader = R"family(// A comment.
{
  "format": 1,
  "family": "Test",
  "model_types": ["test", "other"],
  "config": {
    "size":  {"type": "integer", "min": 1, "also": ["width"]},
    "scale": {"type": "number", "default": 1},
    "dtype": {"type": "element_type", "also": ["torch_dtype"]},
    "act":   {"type": "string", "default": "silu", "only": ["silu", "swish"]},
    "norm":  {"type": "boolean", "default": false},
    "dense": {"type": "integers", "default": []},
    "kinds": {"type": "strings", "default": [], "also": ["inner.kinds", "inner.more.kinds"]},
    "count": "integer"
  },
  "let": {
    "double": "size * 2",
    "four": "double * 2",
    "body": {"input": "'x'", "width": "four"}
  },
  "require": ["size <= count"],
  "layers": "count",
  "is_moe_layer": "!(layer in dense)"
}
---
template {{size}}
)family";

/// The family in `text`, which must be right.
Family parse(StringRef text) {
  Expected<Family> family = parseFamily(text, "test.family");
  if (family)
    return std::move(*family);
  ADD_FAILURE() << toString(family.takeError());
  return Family();
}

std::string getError(StringRef text) {
  Expected<Family> family = parseFamily(text, "test.family");
  return family ? "none" : toString(family.takeError());
}

/// kHeader with `old` replaced.
std::string change(StringRef old, StringRef by) {
  auto [before, after] = kHeader.split(old);
  EXPECT_NE(before.size(), kHeader.size()) << old.str();
  return (before + by + after).str();
}

json::Object parseObject(StringRef text) {
  Expected<json::Value> value = json::parse(text);
  EXPECT_TRUE(static_cast<bool>(value));
  return *value->getAsObject();
}

/// The value of `name` read from `config`, or the error.
std::string readField(StringRef config, StringRef name) {
  Expected<Names> fields =
      readFields(parse(kHeader), parseObject(config), "config.json");
  if (!fields)
    return toString(fields.takeError());
  return formatValue(*fields->find(name));
}

TEST(Family, ReadsAHeader) {
  Family family = parse(kHeader);
  EXPECT_EQ(family.name, "Test");
  EXPECT_EQ(family.modelTypes, (std::vector<std::string>{"test", "other"}));
  ASSERT_EQ(family.fields.size(), 8u);
  EXPECT_EQ(family.fields[0].name, "size");
  EXPECT_EQ(family.fields[0].minimum, 1);
  EXPECT_EQ(family.fields[0].aliases, std::vector<std::string>{"width"});
  ASSERT_EQ(family.definitions.size(), 3u);
  EXPECT_EQ(family.definitions[1].name, "four");
  EXPECT_EQ(family.definitions[2].members[1].expression, "four");
  EXPECT_EQ(family.templateText, "template {{size}}\n");
  EXPECT_EQ(family.templateLine, 26u);
}

TEST(Family, RefusesWrongHeaders) {
  EXPECT_NE(getError("{}").find("has no line '---'"), std::string::npos);
  EXPECT_NE(getError("---\n").find("expected '{'"), std::string::npos);
  EXPECT_NE(getError("{}\n---\n").find("the header says \"format\": 0"),
            std::string::npos);
  EXPECT_NE(getError("{\"format\": 1}\n---\n").find("has no \"family\""),
            std::string::npos);
  EXPECT_NE(getError(change("\"require\"", "\"requires\""))
                .find("unknown key 'requires'; known are format,"),
            std::string::npos);
  EXPECT_NE(getError(change("\"integers\"", "\"ints\""))
                .find("the type of the field 'dense' is 'ints', but can be"),
            std::string::npos);
  EXPECT_NE(getError(change("{\"type\": \"string\", ", "{"))
                .find("the field 'act' has no type"),
            std::string::npos);
  EXPECT_NE(getError(change("\"double\":", "\"scale\":"))
                .find("'scale' is both a field and a definition"),
            std::string::npos);
  EXPECT_NE(getError(change("\"double\":", "\"layer\":"))
                .find("'layer' is always defined"),
            std::string::npos);
  EXPECT_NE(getError(change("\"double\":", "\"in\":")).find("'in' is no name"),
            std::string::npos);
  EXPECT_NE(getError(change("\"input\": \"'x'\", \"width\": \"four\"", ""))
                .find("is an empty record"),
            std::string::npos);
  EXPECT_NE(getError(change("\"size <= count\"", "1"))
                .find("'require' should hold strings only"),
            std::string::npos);
}

TEST(Family, ReadsFields) {
  constexpr StringLiteral config =
      R"({"width": 7, "torch_dtype": "float16", "count": 9.0, "scale": 2,
          "dense": [1, 2], "unused": null, "act": null})";
  EXPECT_EQ(readField(config, "size"), "7");
  EXPECT_EQ(readField(config, "dtype"), "f16");
  EXPECT_EQ(readField(config, "count"), "9");
  // A number always has its point, as IR wants it.
  EXPECT_EQ(readField(config, "scale"), "2.0");
  EXPECT_EQ(readField(config, "dense"), "[1, 2]");
  EXPECT_EQ(readField(config, "act"), "silu");
}

TEST(Family, ReadsFieldsOfObjects) {
  auto read = [](StringRef member) {
    return readField(
        (R"({"width": 7, "dtype": "float16", "count": 9, )" + member + "}")
            .str(),
        "kinds");
  };
  EXPECT_EQ(read(R"("kinds": ["a"])"), "[a]");
  EXPECT_EQ(read(R"("inner": {"kinds": ["a", "b"]})"), "[a, b]");
  EXPECT_EQ(read(R"("inner": {"more": {"kinds": ["c"]}})"), "[c]");
  EXPECT_EQ(read(R"("inner.kinds": ["d"])"), "[d]");
  EXPECT_EQ(read(R"("inner": 1)"), "[]");
  EXPECT_EQ(read(R"("inner": {"kinds": ["a", 1]})"),
            "'config.json': 'inner.kinds' is [\"a\",1], but must be a list of "
            "strings");
  EXPECT_NE(read(R"("kinds": [], "inner": {"kinds": ["a"]})")
                .find("they mean the same"),
            std::string::npos);
}

TEST(Family, RefusesWrongFields) {
  EXPECT_EQ(readField("{}", "size"),
            "'config.json': has no 'size' (or 'width'), no 'dtype' (or "
            "'torch_dtype'), no 'count', which the family Test (test.family) "
            "needs");
  auto message = [](StringRef member) {
    std::string config =
        (R"({"dtype": "float32", "count": 9, )" + member + "}").str();
    return readField(config, "size");
  };
  EXPECT_EQ(message(R"("size": 1)"), "1");
  EXPECT_EQ(message(R"("size": 0)"),
            "'config.json': 'size' is 0, but must be an integer from 1 to "
            "2147483647");
  for (StringRef wrong : {"2147483648", "1e300", "1.5", "\"1\"", "[1]", "true"})
    EXPECT_NE(message(("\"size\": " + wrong).str()).find("must be an integer"),
              std::string::npos)
        << wrong.str();
  EXPECT_NE(message(R"("size": 1, "width": 2)").find("they mean the same"),
            std::string::npos);
  EXPECT_NE(message(R"("size": 1, "act": "gelu")")
                .find("is written for \"silu\" or \"swish\""),
            std::string::npos);
  EXPECT_NE(message(R"("size": 1, "norm": 1)").find("must be true or false"),
            std::string::npos);
  EXPECT_NE(message(R"("size": 1, "dense": [1, "2"])")
                .find("must be a list of integers"),
            std::string::npos);
  EXPECT_NE(message(R"("size": 1, "scale": "1")").find("a finite number"),
            std::string::npos);
  EXPECT_NE(
      message(R"("size": 1, "torch_dtype": "int8")").find("they mean the same"),
      std::string::npos);
}

TEST(Family, DefinesNamesInOrder) {
  Family family = parse(kHeader);
  Names fields;
  fields.set("size", int64_t(3));
  fields.set("count", int64_t(5));
  Expected<Names> names = defineNames(family, fields, 2);
  ASSERT_TRUE(static_cast<bool>(names));
  EXPECT_EQ(formatValue(*names->find("four")), "12");
  EXPECT_EQ(formatValue(*names->find("layer")), "2");
  const auto *body = names->find("body")->getAs<Names>();
  ASSERT_TRUE(body);
  EXPECT_EQ(formatValue(*body->find("input")), "x");
  EXPECT_EQ(formatValue(*body->find("width")), "12");

  fields.set("size", int64_t(6));
  Expected<Names> wrong = defineNames(family, fields, 2);
  ASSERT_FALSE(static_cast<bool>(wrong));
  EXPECT_EQ(toString(wrong.takeError()),
            "'test.family': requires 'size <= count', but config.json says "
            "size = 6, count = 5");
}

} // namespace
