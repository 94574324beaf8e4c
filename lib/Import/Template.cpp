//===- Template.cpp - Mustache templates, checked ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Template.h"
#include "moe/Import/Expression.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Mustache.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace mlir::moe;
using Value = mlir::moe::Value; // llvm has one, too.

/// A chain of partials deeper than this, and sections in sections deeper than
/// this, are a mistake.
static constexpr size_t kMaxDepth = 20;
/// Nor is there a use for so many partials; ones that double would never end.
static constexpr unsigned kMaxPartials = 1000;
static constexpr size_t kMaxSize = 16 << 20;

namespace {
/// Checks the tags of a template and puts its partials in their places.
///
/// llvm::mustache has partials of its own, but in LLVM 22 one inside a section
/// does not see the names from around the section.
class TemplateExpander {
public:
  TemplateExpander(const Names &names, FindPartial findPartial)
      : findPartial(findPartial) {
    scopes.push_back(&names);
  }

  /// The text of `source`, without tags for partials.
  Expected<std::string> expand(const TemplateSource &source);

private:
  struct Section {
    StringRef name;
    unsigned line;
    bool opensScope;
  };
  /// A tag `{{kind name}}`; `kind` is 'v' for a value.
  struct Tag {
    char kind;
    StringRef name;
  };

  Expected<Tag> readTag(StringRef text) const;
  Error checkTag(Tag tag, SmallVectorImpl<Section> &sections);
  Error checkValue(StringRef name);
  Error openSection(Tag tag, SmallVectorImpl<Section> &sections);
  Error closeSection(StringRef name, SmallVectorImpl<Section> &sections);
  Expected<std::string> expandPartial(StringRef name);
  Error expandTag(StringRef text, StringRef before, StringRef &after,
                  SmallVectorImpl<Section> &sections, std::string &result);

  Expected<const Value *> lookUp(StringRef name);
  Error makeError(const Twine &message) const {
    return createStringError(current->path + ":" + Twine(line) + ": " +
                             message);
  }

  FindPartial findPartial;
  SmallVector<const Names *> scopes;
  SmallVector<const TemplateSource *> open; // The chain of partials.
  const TemplateSource *current = nullptr;
  unsigned line = 1;
  unsigned numPartials = 0;
};
} // namespace

/// The value of `name`, in the innermost record that has it.
Expected<const Value *> TemplateExpander::lookUp(StringRef name) {
  for (const Names *scope : reverse(scopes))
    if (const Value *value = scope->find(name))
      return value;
  unsigned nearest = name.size() / 2 + 1;
  std::string hint = "; the family defines names under \"config\" and \"let\"";
  for (const Names *scope : reverse(scopes))
    for (const auto &[other, value] : *scope) {
      unsigned distance = name.edit_distance(other);
      if (distance >= nearest)
        continue;
      nearest = distance;
      hint = ("; did you mean " + quoteName(other) + "?");
    }
  return makeError("there is no value named " + quoteName(name) + hint);
}

Error TemplateExpander::checkValue(StringRef name) {
  Expected<const Value *> value = lookUp(name);
  if (!value)
    return value.takeError();
  if ((*value)->getAs<Names>() || (*value)->getAs<std::vector<int64_t>>() ||
      (*value)->getAs<std::vector<std::string>>())
    return makeError(quoteName(name) + " is " + describeKind(**value) +
                     ", and has no text to put here");
  return Error::success();
}

Error TemplateExpander::openSection(Tag tag,
                                    SmallVectorImpl<Section> &sections) {
  StringRef name = tag.name;
  bool inverted = tag.kind == '^';
  Expected<const Value *> value = lookUp(name);
  if (!value)
    return value.takeError();
  const Names *record = (*value)->getAs<Names>();
  if (!(*value)->getAs<bool>() && !(record && !inverted))
    return makeError(quoteName(name) + " is " + describeKind(**value) +
                     ", but a section needs " +
                     (inverted ? "a boolean" : "a boolean or a record"));
  if (sections.size() >= kMaxDepth)
    return makeError("more than " + Twine(kMaxDepth) +
                     " sections within each other");
  sections.push_back({name, line, record != nullptr});
  if (record)
    scopes.push_back(record);
  return Error::success();
}

Error TemplateExpander::closeSection(StringRef name,
                                     SmallVectorImpl<Section> &sections) {
  if (sections.empty())
    return makeError("{{/" + name + "}} closes nothing");
  Section section = sections.pop_back_val();
  if (section.name != name)
    return makeError("{{/" + name + "}} comes before {{/" + section.name +
                     "}}, which line " + Twine(section.line) + " needs");
  if (section.opensScope)
    scopes.pop_back();
  return Error::success();
}

Expected<std::string> TemplateExpander::expandPartial(StringRef name) {
  const TemplateSource *partial = findPartial(name);
  if (!partial)
    return makeError("there is no partial " + quoteName(name) +
                     "; it would be partials/" + name +
                     ".mustache beside the family file");
  if (is_contained(open, partial))
    return makeError("the partial " + quoteName(name) + " contains itself");
  if (open.size() >= kMaxDepth || ++numPartials > kMaxPartials)
    return makeError("too many partials: more than " + Twine(kMaxPartials) +
                     ", or more than " + Twine(kMaxDepth) +
                     " within each other");
  const TemplateSource *outer = current;
  unsigned outerLine = line;
  Expected<std::string> text = expand(*partial);
  current = outer;
  line = outerLine;
  return text;
}

Expected<TemplateExpander::Tag>
TemplateExpander::readTag(StringRef text) const {
  Tag tag{'v', text};
  if (!text.empty() && StringRef("#^/>!").contains(text.front()))
    tag = {text.front(), text.drop_front()};
  tag.name = tag.name.trim();
  if (tag.kind != '!' && !isValidName(tag.name))
    return makeError("{{" + text +
                     "}} is none of {{name}}, {{#name}}, "
                     "{{^name}}, {{/name}}, {{>name}}, "
                     "{{!...}}");
  return tag;
}

/// Any tag but one for a partial.
Error TemplateExpander::checkTag(Tag tag, SmallVectorImpl<Section> &sections) {
  switch (tag.kind) {
  case 'v':
    return checkValue(tag.name);
  case '#':
  case '^':
    return openSection(tag, sections);
  case '/':
    return closeSection(tag.name, sections);
  default:
    return Error::success();
  }
}

/// The text of a partial in the place of its tag: `before` and `after` are what
/// stands around it. A tag alone on its line takes the line with it, and
/// indents all of the partial.
static std::string placePartial(StringRef partial, StringRef before,
                                StringRef &after) {
  StringRef indent = before.take_back(
      before.size() - (before.rfind('\n') + 1)); // npos + 1 is 0.
  StringRef trailing = after.take_until([](char c) { return c == '\n'; });
  if (!indent.trim().empty() || !trailing.trim().empty())
    return partial.str();
  after = after.drop_front(std::min(trailing.size() + 1, after.size()));
  std::string text;
  for (bool first = true; !partial.empty(); first = false) {
    StringRef line;
    std::tie(line, partial) = partial.split('\n');
    if (!first && !line.trim().empty())
      text += indent;
    text += line;
    text += '\n';
  }
  return text;
}

/// Adds what stands for the tag `{{text}}` to `result`: itself, or the text of
/// a partial. `before` and `after` are what stands around it in the source.
Error TemplateExpander::expandTag(StringRef text, StringRef before,
                                  StringRef &after,
                                  SmallVectorImpl<Section> &sections,
                                  std::string &result) {
  Expected<Tag> tag = readTag(text);
  if (!tag)
    return tag.takeError();
  if (tag->kind != '>') {
    result += ("{{" + text + "}}").str();
    return checkTag(*tag, sections);
  }
  Expected<std::string> partial = expandPartial(tag->name);
  if (!partial)
    return partial.takeError();
  StringRef rest = after;
  result += placePartial(*partial, before, after);
  line += rest.drop_back(after.size()).count('\n');
  return Error::success();
}

Expected<std::string> TemplateExpander::expand(const TemplateSource &source) {
  current = &source;
  line = source.firstLine;
  open.push_back(&source);
  SmallVector<Section> sections;
  std::string result;
  StringRef rest = source.text;
  for (size_t begin; (begin = rest.find("{{")) != StringRef::npos;) {
    result += rest.take_front(begin);
    line += rest.take_front(begin).count('\n');
    size_t end = rest.find("}}", begin);
    if (end == StringRef::npos)
      return makeError("a tag that begins with {{ does not end with }}");
    StringRef tag = rest.slice(begin + 2, end);
    rest = rest.drop_front(end + 2);
    StringRef before(source.text.data(), tag.data() - 2 - source.text.data());
    if (Error error = expandTag(tag, before, rest, sections, result))
      return std::move(error);
    line += tag.count('\n');
    if (result.size() > kMaxSize)
      return makeError("the template grows beyond " + Twine(kMaxSize) +
                       " bytes");
  }
  open.pop_back();
  if (sections.empty())
    return result + rest.str();
  line = sections.back().line;
  return makeError("the section " + quoteName(sections.back().name) +
                   " is not closed by {{/" + sections.back().name + "}}");
}

/// `names` as Mustache should see them: booleans and records for sections, all
/// else already as text.
static json::Object convertNames(const Names &names) {
  json::Object converted;
  for (const auto &[name, value] : names) {
    if (const Names *record = value.getAs<Names>())
      converted[name] = convertNames(*record);
    else if (const bool *boolean = value.getAs<bool>())
      converted[name] = *boolean;
    else
      converted[name] = formatValue(value);
  }
  return converted;
}

Expected<std::string> mlir::moe::renderTemplate(const TemplateSource &source,
                                                const Names &names,
                                                FindPartial findPartial) {
  Expected<std::string> expanded =
      TemplateExpander(names, findPartial).expand(source);
  if (!expanded)
    return expanded.takeError();
  BumpPtrAllocator allocator;
  StringSaver saver(allocator);
  mustache::MustacheContext context(allocator, saver);
  mustache::Template parsed(*expanded, context);
  // The text is IR, and no HTML.
  parsed.overrideEscapeCharacters(DenseMap<char, std::string>());
  std::string text;
  raw_string_ostream stream(text);
  parsed.render(json::Value(convertNames(names)), stream);
  return text;
}
