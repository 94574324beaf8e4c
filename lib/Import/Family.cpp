//===- Family.cpp - Reading family files ------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Family.h"
#include "moe/Import/Expression.h"
#include "moe/Support/JsonMembers.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace mlir::moe;

/// The version of the format that this file reads.
static constexpr int64_t kFormat = 1;

//===----------------------------------------------------------------------===//
// Pieces of JSON
//===----------------------------------------------------------------------===//

static Expected<json::Value> parseValue(StringRef text, const Twine &what) {
  Expected<json::Value> value = json::parse(text);
  if (!value)
    return createStringError(
        what + " is not valid JSON: " + toString(value.takeError()));
  return value;
}

static Expected<std::vector<std::string>> parseStrings(StringRef text,
                                                       const Twine &what) {
  Expected<json::Value> value = parseValue(text, what);
  if (!value)
    return value.takeError();
  std::vector<std::string> strings;
  const json::Array *list = value->getAsArray();
  if (!list)
    return createStringError(what + " should be a list of strings");
  for (const json::Value &element : *list) {
    std::optional<StringRef> string = element.getAsString();
    if (!string)
      return createStringError(what + " should hold strings only");
    strings.push_back(string->str());
  }
  return strings;
}

static Expected<int64_t> parseInteger(StringRef text, const Twine &what) {
  Expected<json::Value> value = parseValue(text, what);
  if (!value)
    return value.takeError();
  if (std::optional<int64_t> integer = value->getAsInteger())
    return *integer;
  return createStringError(what + " should be an integer");
}

/// Takes the value out of `source`, or gives its error back.
template <typename T>
static Error assign(T &target, Expected<T> source) {
  if (!source)
    return source.takeError();
  target = std::move(*source);
  return Error::success();
}

static Error makeUnknownKeyError(StringRef key, const Twine &where,
                                 StringRef known) {
  return createStringError(where + " has an unknown key " + quoteName(key) +
                           "; known are " + known);
}

//===----------------------------------------------------------------------===//
// Header
//===----------------------------------------------------------------------===//

namespace {
/// Fills a Family from the JSON header of its file.
class HeaderReader {
public:
  explicit HeaderReader(Family &family) : family(family) {}

  Error read(StringRef header);

private:
  Error readMember(StringRef key, StringRef value);
  Error readField(StringRef name, StringRef value);
  Error readFieldMember(ConfigField &field, StringRef key, StringRef value,
                        StringRef what);
  Error readDefinition(StringRef name, StringRef value);
  Error checkName(StringRef name);
  Error checkComplete();

  Family &family;
  int64_t format = 0;
  StringSet<> names;
};
} // namespace

/// A name in a family stands for one thing, and for nothing that we define.
Error HeaderReader::checkName(StringRef name) {
  if (!isValidName(name))
    return createStringError(quoteName(name) +
                             " is no name: letters, digits and '_' make one, "
                             "beginning with no digit, and not 'in', 'true' or "
                             "'false'");
  if (name == "layer" || name == "model_type" || name == "family" ||
      name == "routing")
    return createStringError(quoteName(name) + " is always defined by "
                                               "moe-import; take another name");
  if (!names.insert(name).second)
    return createStringError(quoteName(name) +
                             " is both a field and a definition; take another "
                             "name for the definition");
  return Error::success();
}

static Expected<ConfigField::Type> parseFieldType(StringRef text,
                                                  StringRef what) {
  using Type = ConfigField::Type;
  Expected<std::string> name = parseJsonString(text, "the type of the " + what);
  if (!name)
    return name.takeError();
  std::optional<Type> type = StringSwitch<std::optional<Type>>(*name)
                                 .Case("integer", Type::Integer)
                                 .Case("number", Type::Number)
                                 .Case("boolean", Type::Boolean)
                                 .Case("string", Type::String)
                                 .Case("integers", Type::Integers)
                                 .Case("strings", Type::Strings)
                                 .Case("element_type", Type::Element)
                                 .Default(std::nullopt);
  if (type)
    return *type;
  return createStringError("the type of the " + what + " is " +
                           quoteName(*name) +
                           ", but can be integer, number, boolean, string, "
                           "integers, strings or element_type");
}

Error HeaderReader::readFieldMember(ConfigField &field, StringRef key,
                                    StringRef value, StringRef what) {
  if (key == "type")
    return assign(field.type, parseFieldType(value, what));
  if (key == "also")
    return assign(field.aliases, parseStrings(value, "'also' of the " + what));
  if (key == "min")
    return assign(field.minimum, parseInteger(value, "'min' of the " + what));
  if (key != "default" && key != "only")
    return makeUnknownKeyError(key, "the " + what,
                               "type, also, default, min, only");
  Expected<json::Value> parsed =
      parseValue(value, "'" + key + "' of the " + what);
  if (!parsed)
    return parsed.takeError();
  if (key == "default") {
    field.fallback = std::move(*parsed);
    return Error::success();
  }
  json::Array *list = parsed->getAsArray();
  if (!list || list->empty())
    return createStringError("'only' of the " + what +
                             " should be a list of the values it may have");
  for (json::Value &element : *list)
    field.allowed.push_back(std::move(element));
  return Error::success();
}

/// `"name": "type"` or `"name": {"type": ..., ...}`.
Error HeaderReader::readField(StringRef name, StringRef value) {
  if (Error error = checkName(name))
    return error;
  ConfigField field;
  field.name = name.str();
  std::string what = "field " + quoteName(name);
  Error error = Error::success();
  if (value.starts_with("{")) {
    bool typed = false;
    error = joinErrors(
        std::move(error),
        forEachJsonMember(value, [&](StringRef key, StringRef member) {
          typed |= key == "type";
          return readFieldMember(field, key, member, what);
        }));
    if (!error && !typed)
      error = createStringError("the " + what + " has no type");
  } else {
    error = joinErrors(std::move(error),
                       readFieldMember(field, "type", value, what));
  }
  if (error)
    return error;
  family.fields.push_back(std::move(field));
  return Error::success();
}

/// `"name": "expression"` or `"name": {"member": "expression", ...}`.
Error HeaderReader::readDefinition(StringRef name, StringRef value) {
  if (Error error = checkName(name))
    return error;
  Definition definition;
  definition.name = name.str();
  std::string what = "the definition of " + quoteName(name);
  if (!value.starts_with("{")) {
    if (Error error =
            assign(definition.expression, parseJsonString(value, what)))
      return error;
    family.definitions.push_back(std::move(definition));
    return Error::success();
  }
  auto readMember = [&](StringRef key, StringRef text) -> Error {
    if (!isValidName(key))
      return createStringError(quoteName(key) + " in " + what + " is no name");
    Definition &member = definition.members.emplace_back();
    member.name = key.str();
    return assign(member.expression, parseJsonString(text, what));
  };
  if (Error error = forEachJsonMember(value, readMember))
    return error;
  if (definition.members.empty())
    return createStringError(what + " is an empty record");
  family.definitions.push_back(std::move(definition));
  return Error::success();
}

Error HeaderReader::readMember(StringRef key, StringRef value) {
  if (key == "format")
    return assign(format, parseInteger(value, "'format'"));
  if (key == "family")
    return assign(family.name, parseJsonString(value, "'family'"));
  if (key == "model_types")
    return assign(family.modelTypes, parseStrings(value, "'model_types'"));
  if (key == "config")
    return forEachJsonMember(value, [&](StringRef name, StringRef field) {
      return readField(name, field);
    });
  if (key == "let")
    return forEachJsonMember(value, [&](StringRef name, StringRef definition) {
      return readDefinition(name, definition);
    });
  if (key == "require")
    return assign(family.requirements, parseStrings(value, "'require'"));
  if (key == "layers")
    return assign(family.layerCount, parseJsonString(value, "'layers'"));
  if (key == "is_moe_layer")
    return assign(family.isMoELayer, parseJsonString(value, "'is_moe_layer'"));
  return makeUnknownKeyError(key, "the header",
                             "format, family, model_types, config, let, "
                             "require, layers, is_moe_layer");
}

Error HeaderReader::checkComplete() {
  if (format != kFormat)
    return createStringError("the header says \"format\": " + Twine(format) +
                             ", but this moe-import reads format " +
                             Twine(kFormat));
  const char *missing = family.name.empty()         ? "family"
                        : family.modelTypes.empty() ? "model_types"
                        : family.fields.empty()     ? "config"
                        : family.layerCount.empty() ? "layers"
                                                    : nullptr;
  if (missing)
    return createStringError("the header has no \"" + Twine(missing) +
                             "\", or an empty one");
  return Error::success();
}

Error HeaderReader::read(StringRef header) {
  // The version first: in another one everything may read differently.
  auto readFormat = [&](StringRef key, StringRef value) {
    return key == "format" ? readMember(key, value) : Error::success();
  };
  if (Error error = forEachJsonMember(header, readFormat))
    return error;
  if (format == kFormat)
    if (Error error =
            forEachJsonMember(header, [&](StringRef key, StringRef value) {
              return readMember(key, value);
            }))
      return error;
  return checkComplete();
}

//===----------------------------------------------------------------------===//
// File
//===----------------------------------------------------------------------===//

static bool isSeparator(StringRef line) {
  line = line.rtrim();
  return line.size() >= 3 && line.find_first_not_of('-') == StringRef::npos;
}

Expected<Family> mlir::moe::parseFamily(StringRef text, StringRef path) {
  Family family;
  family.path = path.str();
  std::string header;
  StringRef rest = text;
  bool separated = false;
  while (!rest.empty() && !separated) {
    StringRef line;
    std::tie(line, rest) = rest.split('\n');
    ++family.templateLine;
    separated = isSeparator(line);
    // Lines of comment are blanked, so that JSON errors count lines right.
    if (!separated && !line.ltrim().starts_with("//"))
      header += line;
    header += '\n';
  }
  if (!separated)
    return createFileError(
        path, createStringError("has no line '---' between the JSON header "
                                "and the template"));
  if (Error error = HeaderReader(family).read(header))
    return createFileError(path, std::move(error));
  family.templateText = rest.str();
  return family;
}
