//===- TemplateTest.cpp - Mustache templates, checked -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Template.h"
#include "llvm/ADT/StringMap.h"
#include "gtest/gtest.h"

using namespace llvm;
using namespace mlir::moe;

namespace {

Names getNames() {
  Names record;
  record.set("input", std::string("xe"));
  record.set("H", int64_t(5));
  Names names;
  names.set("H", int64_t(2048));
  names.set("scale", 1.0);
  names.set("type", std::string("bf16"));
  names.set("text", std::string("a < \"b\" & c"));
  names.set("yes", true);
  names.set("no", false);
  names.set("list", std::vector<int64_t>{1, 2});
  names.set("body", record);
  return names;
}

class TemplateTest : public ::testing::Test {
protected:
  void addPartial(StringRef name, StringRef text) {
    partials[name] = {(name + ".mustache").str(), text.str(), 1};
  }

  /// The rendered text, or the error.
  std::string render(StringRef text) {
    TemplateSource source{"file", text.str(), 10};
    Expected<std::string> result =
        renderTemplate(source, getNames(), [&](StringRef name) {
          auto it = partials.find(name);
          return it == partials.end() ? nullptr : &it->second;
        });
    return result ? *result : "error: " + toString(result.takeError());
  }

  StringMap<TemplateSource> partials;
};

TEST_F(TemplateTest, PutsValuesIn) {
  EXPECT_EQ(render("tensor<?x{{H}}x{{ type }}>"), "tensor<?x2048xbf16>");
  EXPECT_EQ(render("{a = {{scale}}, b = \"{{text}}\", c = {{yes}}}"),
            "{a = 1.0, b = \"a < \"b\" & c\", c = true}");
  EXPECT_EQ(render(""), "");
  EXPECT_EQ(render("{moe.param = \"{expert}\"}\n"),
            "{moe.param = \"{expert}\"}\n");
}

TEST_F(TemplateTest, TakesSections) {
  EXPECT_EQ(render("a\n{{#yes}}\nb\n{{/yes}}\n{{#no}}\nc\n{{/no}}\nd\n"),
            "a\nb\nd\n");
  EXPECT_EQ(render("{{^yes}}b{{/yes}}{{^no}}c{{/no}}"), "c");
  EXPECT_EQ(render("{{#body}}%{{input}}: {{H}} {{type}}{{/body}} {{H}}"),
            "%xe: 5 bf16 2048");
  EXPECT_EQ(render("{{! a\n comment }}\nb"), "b");
}

TEST_F(TemplateTest, PlacesPartials) {
  addPartial("two", "{{! what it is }}\nline {{H}}\n\n  {{#yes}}\n  more\n"
                    "  {{/yes}}\n");
  addPartial("word", "bf16");
  EXPECT_EQ(render("  {{>two}}\nend\n"), "  line 2048\n\n    more\nend\n");
  EXPECT_EQ(render("a {{>word}} b"), "a bf16 b");
  // A partial sees the names from around its section.
  addPartial("inner", "{{input}} {{type}}\n");
  EXPECT_EQ(render("{{#yes}}{{#body}}\n  {{>inner}}\n{{/body}}{{/yes}}"),
            "\n  xe bf16\n");
}

TEST_F(TemplateTest, NamesTheLineOfAMistake) {
  EXPECT_EQ(render("\n\n{{h}}"), "error: file:12: there is no value named 'h'; "
                                 "the family defines names under \"config\" "
                                 "and \"let\"");
  EXPECT_EQ(render("{{typ}}"), "error: file:10: there is no value named 'typ'; "
                               "did you mean 'type'?");
  EXPECT_EQ(render("{{#body}}{{/body}}{{input}}").substr(0, 46),
            "error: file:10: there is no value named 'input");
  addPartial("part", "\n\n  {{nothing}}");
  EXPECT_EQ(render("\n{{>part}}").substr(0, 43),
            "error: part.mustache:3: there is no value n");
  // Lines count on after a partial, and after a comment of several lines.
  addPartial("good", "1\n2\n3\n");
  EXPECT_EQ(render("{{>good}}\n{{! \n\n }}\n{{nothing}}").substr(0, 36),
            "error: file:14: there is no value na");
}

TEST_F(TemplateTest, RefusesOtherTags) {
  for (StringRef tag : {"{{}}", "{{#}}", "{{{H}}}", "{{&H}}", "{{=< >=}}",
                        "{{a.b}}", "{{H H}}", "{{ #yes}}{{/yes}}", "{{<x}}"})
    EXPECT_NE(render(tag).find("is none of {{name}}, {{#name}}"),
              std::string::npos)
        << tag.str();
  EXPECT_EQ(render("{{H"), "error: file:10: a tag that begins with {{ does not "
                           "end with }}");
}

TEST_F(TemplateTest, RefusesWrongSections) {
  EXPECT_EQ(render("{{/yes}}"), "error: file:10: {{/yes}} closes nothing");
  EXPECT_EQ(render("{{#yes}}\n{{#no}}{{/yes}}"),
            "error: file:11: {{/yes}} comes before {{/no}}, which line 11 "
            "needs");
  EXPECT_EQ(render("{{^yes}}\n"),
            "error: file:10: the section 'yes' is not closed by {{/yes}}");
  EXPECT_EQ(render("{{#H}}{{/H}}"),
            "error: file:10: 'H' is an integer, but a section needs a boolean "
            "or a record");
  EXPECT_EQ(render("{{^body}}{{/body}}"),
            "error: file:10: 'body' is a record, but a section needs a "
            "boolean");
  EXPECT_EQ(render("{{body}}"),
            "error: file:10: 'body' is a record, and has no text to put here");
  EXPECT_EQ(render("{{list}}"),
            "error: file:10: 'list' is a list, and has no text to put here");
}

TEST_F(TemplateTest, RefusesEndlessPartials) {
  EXPECT_NE(render("{{>none}}").find("there is no partial 'none'"),
            std::string::npos);
  addPartial("a", "{{>b}}");
  addPartial("b", "\n{{>a}}");
  EXPECT_EQ(render("{{>a}}"),
            "error: b.mustache:2: the partial 'a' contains itself");
  // Each twice the next: 2^15 in all.
  for (int i = 0; i < 15; ++i)
    addPartial("p" + std::to_string(i), "{{>p" + std::to_string(i + 1) +
                                            "}}{{>p" + std::to_string(i + 1) +
                                            "}}");
  addPartial("p15", "end");
  EXPECT_NE(render("{{>p0}}").find("too many partials"), std::string::npos);
  std::string deep;
  for (int i = 0; i < 100'000; ++i)
    deep += "{{#yes}}";
  EXPECT_NE(render(deep).find("sections within each other"), std::string::npos);
}

} // namespace
