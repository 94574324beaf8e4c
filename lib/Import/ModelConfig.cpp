//===- ModelConfig.cpp - What a family reads from config.json ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Expression.h"
#include "moe/Import/Family.h"
#include "moe/Support/JsonMembers.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include <cmath>
#include <limits>

using namespace llvm;
using namespace mlir::moe;
using Value = mlir::moe::Value; // llvm has one, too.

/// The largest have some 100 KB (label names).
static constexpr size_t kMaxConfigSize = 16 << 20;
static constexpr int64_t kMaxInteger = std::numeric_limits<int32_t>::max();

//===----------------------------------------------------------------------===//
// Reading config.json
//===----------------------------------------------------------------------===//

/// Python writes NaN, Infinity and -Infinity, which are no JSON. In fields that
/// nobody needs they shouldn't be in the way.
static Expected<json::Value> parseLenient(StringRef text) {
  Expected<json::Value> value = json::parse(text);
  if (value)
    return value;
  std::string plain;
  for (StringRef rest = text; !rest.empty();) {
    if (rest.consume_front("-Infinity") || rest.consume_front("Infinity") ||
        rest.consume_front("NaN")) {
      plain += "null";
      continue;
    }
    plain += rest.front();
    rest = rest.drop_front();
  }
  Expected<json::Value> again = json::parse(plain);
  if (again)
    consumeError(value.takeError());
  else
    consumeError(again.takeError());
  return again ? std::move(again) : std::move(value);
}

Expected<json::Object> mlir::moe::readJsonFile(StringRef path) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  StringRef text = toStringRef((*file)->getBytes());
  if (text.size() > kMaxConfigSize)
    return createFileError(
        path, createStringError("has " + Twine(text.size()) +
                                " bytes; no configuration of a model has "
                                "more than " +
                                Twine(kMaxConfigSize)));
  json::Object object;
  auto readMember = [&](StringRef name, StringRef value) -> Error {
    Expected<json::Value> parsed = parseLenient(value);
    if (!parsed)
      return createStringError(quoteName(name) + " is not valid JSON: " +
                               toString(parsed.takeError()));
    object[name.str()] = std::move(*parsed);
    return Error::success();
  };
  if (Error error = forEachJsonMember(text, readMember))
    return createFileError(path, std::move(error));
  return std::move(object);
}

//===----------------------------------------------------------------------===//
// Fields
//===----------------------------------------------------------------------===//

static std::optional<std::string> getElementType(const json::Value &value) {
  StringRef type = StringSwitch<StringRef>(value.getAsString().value_or(""))
                       .Case("float32", "f32")
                       .Case("float16", "f16")
                       .Case("bfloat16", "bf16")
                       .Default("");
  if (type.empty())
    return std::nullopt;
  return type.str();
}

/// An integer that is in the range of `field`.
static std::optional<int64_t> getInteger(const json::Value &value,
                                         const ConfigField &field) {
  std::optional<int64_t> integer = value.getAsInteger();
  if (integer && *integer >= field.minimum && *integer <= kMaxInteger)
    return integer;
  return std::nullopt;
}

static std::optional<std::vector<int64_t>>
getIntegers(const json::Value &value, const ConfigField &field) {
  const json::Array *list = value.getAsArray();
  if (!list)
    return std::nullopt;
  std::vector<int64_t> integers;
  for (const json::Value &element : *list) {
    std::optional<int64_t> integer = getInteger(element, field);
    if (!integer)
      return std::nullopt;
    integers.push_back(*integer);
  }
  return integers;
}

static std::optional<std::vector<std::string>>
getStrings(const json::Value &value) {
  const json::Array *list = value.getAsArray();
  if (!list)
    return std::nullopt;
  std::vector<std::string> strings;
  for (const json::Value &element : *list) {
    std::optional<StringRef> string = element.getAsString();
    if (!string)
      return std::nullopt;
    strings.push_back(string->str());
  }
  return strings;
}

static std::optional<double> getNumber(const json::Value &value) {
  std::optional<double> number = value.getAsNumber();
  if (number && std::isfinite(*number))
    return number;
  return std::nullopt;
}

static std::optional<std::string> getString(const json::Value &value) {
  if (std::optional<StringRef> string = value.getAsString())
    return string->str();
  return std::nullopt;
}

/// `value` as a family sees it, or nothing when it is not what `field` wants.
static std::optional<Value> convertValue(const json::Value &value,
                                         const ConfigField &field) {
  using Type = ConfigField::Type;
  switch (field.type) {
  case Type::Integer:
    return getInteger(value, field);
  case Type::Number:
    return getNumber(value);
  case Type::Boolean:
    return value.getAsBoolean();
  case Type::String:
    return getString(value);
  case Type::Integers:
    return getIntegers(value, field);
  case Type::Strings:
    return getStrings(value);
  case Type::Element:
    return getElementType(value);
  }
  llvm_unreachable("unknown type of field");
}

static std::string describeWanted(const ConfigField &field) {
  using Type = ConfigField::Type;
  std::string range =
      (" from " + Twine(field.minimum) + " to " + Twine(kMaxInteger)).str();
  switch (field.type) {
  case Type::Integer:
    return "an integer" + range;
  case Type::Number:
    return "a finite number";
  case Type::Boolean:
    return "true or false";
  case Type::String:
    return "a string";
  case Type::Integers:
    return "a list of integers" + range;
  case Type::Strings:
    return "a list of strings";
  case Type::Element:
    return "\"float32\", \"float16\" or \"bfloat16\": moe-import takes no "
           "other type yet";
  }
  llvm_unreachable("unknown type of field");
}

/// A value of a file for a message: as JSON, shortened.
static std::string describeJson(const json::Value &value) {
  constexpr size_t longest = 80;
  std::string text;
  raw_string_ostream(text) << value;
  if (text.size() > longest)
    text = json::fixUTF8(text.substr(0, longest)) + "...";
  return text;
}

namespace {
/// Takes the fields of one family out of one config.json.
class FieldReader {
public:
  FieldReader(const Family &family, const json::Object &config)
      : family(family), config(config) {}

  Expected<Names> read();

private:
  Error readField(const ConfigField &field);
  Expected<const json::Value *> find(const ConfigField &field,
                                     std::string &foundName);
  Error checkAllowed(const ConfigField &field, StringRef name,
                     const json::Value &value);

  const Family &family;
  const json::Object &config;
  Names values;
  std::vector<std::string> missing;
};
} // namespace

/// The value at `path`: a key, or keys of objects within each other with points
/// in between. Null when there is none.
static const json::Value *lookUp(const json::Object &config, StringRef path) {
  if (const json::Value *value = config.get(path))
    return value;
  auto [key, rest] = path.split('.');
  const json::Object *inner = rest.empty() ? nullptr : config.getObject(key);
  return inner ? lookUp(*inner, rest) : nullptr;
}

/// The value under the field's name or one of its other names; null when none
/// has one. Two that differ are an error.
Expected<const json::Value *> FieldReader::find(const ConfigField &field,
                                                std::string &foundName) {
  const json::Value *found = nullptr;
  auto visit = [&](const std::string &name) -> Error {
    const json::Value *value = lookUp(config, name);
    if (!value || value->kind() == json::Value::Null)
      return Error::success();
    if (found && *found != *value)
      return createStringError(quoteName(foundName) + " is " +
                               describeJson(*found) + ", but " +
                               quoteName(name) + " is " + describeJson(*value) +
                               "; they mean the same, so remove one");
    if (!found)
      foundName = name;
    found = value;
    return Error::success();
  };
  if (Error error = visit(field.name))
    return std::move(error);
  for (const std::string &alias : field.aliases)
    if (Error error = visit(alias))
      return std::move(error);
  return found;
}

Error FieldReader::checkAllowed(const ConfigField &field, StringRef name,
                                const json::Value &value) {
  if (field.allowed.empty() || is_contained(field.allowed, value))
    return Error::success();
  std::string allowed = join(map_range(field.allowed, describeJson), " or ");
  return createStringError(
      quoteName(name) + " is " + describeJson(value) + ", but the family " +
      family.name + " is written for " + allowed + " (in " + family.path +
      "); a family file of your own can take it: see docs/Import.md");
}

Error FieldReader::readField(const ConfigField &field) {
  std::string name = field.name;
  Expected<const json::Value *> found = find(field, name);
  if (!found)
    return found.takeError();
  const json::Value *value = *found;
  bool isFallback = !value && field.fallback;
  if (isFallback)
    value = &*field.fallback;
  if (!value) {
    std::string names = quoteName(field.name);
    for (const std::string &alias : field.aliases)
      names += " (or " + quoteName(alias) + ")";
    missing.push_back(names);
    return Error::success();
  }
  if (!isFallback)
    if (Error error = checkAllowed(field, name, *value))
      return error;
  std::optional<Value> converted = convertValue(*value, field);
  if (!converted)
    return createStringError(quoteName(name) + " is " + describeJson(*value) +
                             (isFallback ? " by default" : "") +
                             ", but must be " + describeWanted(field));
  values.set(field.name, std::move(*converted));
  return Error::success();
}

Expected<Names> FieldReader::read() {
  for (const ConfigField &field : family.fields)
    if (Error error = readField(field))
      return std::move(error);
  if (!missing.empty())
    return createStringError("has no " + join(missing, ", no ") +
                             ", which the family " + family.name + " (" +
                             family.path + ") needs");
  return std::move(values);
}

Expected<Names> mlir::moe::readFields(const Family &family,
                                      const json::Object &config,
                                      StringRef path) {
  Expected<Names> values = FieldReader(family, config).read();
  if (!values)
    return createFileError(path, values.takeError());
  return values;
}

//===----------------------------------------------------------------------===//
// Definitions
//===----------------------------------------------------------------------===//

static Expected<Value> define(const Definition &definition,
                              const Names &names) {
  if (definition.members.empty())
    return evaluateExpression(definition.expression, names);
  Names record;
  for (const Definition &member : definition.members) {
    Expected<Value> value = evaluateExpression(member.expression, names);
    if (!value)
      return value.takeError();
    record.set(member.name, std::move(*value));
  }
  return Value(std::move(record));
}

Expected<Names> mlir::moe::defineNames(const Family &family,
                                       const Names &fields, int64_t layer) {
  Names names = fields;
  names.set("layer", layer);
  for (const Definition &definition : family.definitions) {
    Expected<Value> value = define(definition, names);
    if (!value)
      return createFileError(
          family.path,
          createStringError("the definition of " + quoteName(definition.name) +
                            ": " + toString(value.takeError())));
    names.set(definition.name, std::move(*value));
  }
  for (const std::string &requirement : family.requirements) {
    Expected<bool> holds = evaluateCondition(requirement, names);
    if (!holds)
      return createFileError(family.path, holds.takeError());
    if (!*holds)
      return createFileError(
          family.path, createStringError("requires " + quoteName(requirement) +
                                         ", but config.json says " +
                                         describeNames(requirement, names)));
  }
  return std::move(names);
}
