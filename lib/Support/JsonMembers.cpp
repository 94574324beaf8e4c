//===- JsonMembers.cpp - JSON objects, a member at a time -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/JsonMembers.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/JSON.h"

using namespace llvm;
using namespace mlir::moe;

static constexpr StringLiteral kSpace = " \t\n\r";
static constexpr size_t kMaxDepth = 32;

namespace {
class MemberScanner {
public:
  explicit MemberScanner(StringRef text) : text(text), rest(text) {}

  Error scan(function_ref<Error(StringRef, StringRef)> visit);

private:
  Expected<StringRef> scanString();
  Expected<StringRef> scanValue();
  Error scanMember(function_ref<Error(StringRef, StringRef)> visit);
  Error makeError(const Twine &expected) const {
    return createStringError("JSON error at byte " +
                             Twine(text.size() - rest.size()) + ": " +
                             expected);
  }

  bool consume(StringRef token) {
    rest = rest.ltrim(kSpace);
    return rest.consume_front(token);
  }

  StringRef text;
  StringRef rest;
  StringSet<> names;
};
} // namespace

/// Takes a string with its quotes.
Expected<StringRef> MemberScanner::scanString() {
  if (!rest.starts_with("\""))
    return makeError("expected '\"'");
  size_t end = 1;
  while (true) {
    end = rest.find_first_of("\"\\", end);
    if (end == StringRef::npos || end + 1 == rest.size())
      break;
    if (rest[end] == '"')
      break;
    end += 2; // The escaped character may be a quote.
  }
  if (end >= rest.size() || rest[end] != '"')
    return makeError("the string does not end");
  StringRef token = rest.take_front(end + 1);
  rest = rest.drop_front(end + 1);
  return token;
}

/// Takes a value: a string, a run of brackets that closes, or anything up to
/// the next separator.
Expected<StringRef> MemberScanner::scanValue() {
  rest = rest.ltrim(kSpace);
  StringRef start = rest;
  SmallVector<char, kMaxDepth> closers;
  while (true) {
    if (rest.empty())
      return makeError("the object does not end");
    char next = rest.front();
    if (closers.empty() && (next == ',' || next == '}' || next == ']'))
      break;
    if (next == '"') {
      Expected<StringRef> token = scanString();
      if (!token)
        return token.takeError();
      continue;
    }
    if (next == '{' || next == '[') {
      if (closers.size() == kMaxDepth)
        return makeError("more than " + Twine(kMaxDepth) + " open brackets");
      closers.push_back(next == '{' ? '}' : ']');
    } else if (next == '}' || next == ']') {
      if (next != closers.pop_back_val())
        return makeError("this bracket does not close the last one");
    }
    rest = rest.drop_front();
  }
  return start.drop_back(rest.size()).rtrim(kSpace);
}

Error MemberScanner::scanMember(
    function_ref<Error(StringRef, StringRef)> visit) {
  rest = rest.ltrim(kSpace);
  Expected<StringRef> token = scanString();
  if (!token)
    return token.takeError();
  Expected<std::string> name = parseJsonString(*token, "a name");
  if (!name)
    return name.takeError();
  if (!names.insert(*name).second)
    return makeError("the name " + quoteName(*name) + " is given twice");
  if (!consume(":"))
    return makeError("expected ':'");
  Expected<StringRef> value = scanValue();
  if (!value)
    return value.takeError();
  return visit(*name, *value);
}

Error MemberScanner::scan(function_ref<Error(StringRef, StringRef)> visit) {
  if (!consume("{"))
    return makeError("expected '{'");
  if (!consume("}")) {
    do {
      if (Error error = scanMember(visit))
        return error;
    } while (consume(","));
    if (!consume("}"))
      return makeError("expected ',' or '}'");
  }
  rest = rest.ltrim(kSpace);
  if (!rest.empty())
    return makeError("something follows the object");
  return Error::success();
}

Error mlir::moe::forEachJsonMember(
    StringRef text, function_ref<Error(StringRef, StringRef)> visit) {
  return MemberScanner(text).scan(visit);
}

Expected<std::string> mlir::moe::parseJsonString(StringRef value,
                                                 const Twine &what) {
  // Looks first: parsing anything else may take a lot of memory.
  if (!value.starts_with("\""))
    return createStringError(what + " should be a string");
  Expected<json::Value> parsed = json::parse(value);
  if (!parsed)
    return createStringError(
        what + " is not valid JSON: " + toString(parsed.takeError()));
  if (std::optional<StringRef> string = parsed->getAsString())
    return string->str();
  return createStringError(what + " should be a string");
}
