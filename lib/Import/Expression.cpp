//===- Expression.cpp - Expressions over config fields ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Expression.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <limits>

using namespace llvm;
using namespace mlir::moe;

/// Nobody opens as many brackets; a stack has room for them.
static constexpr unsigned kMaxDepth = 50;

static bool isNameStart(char c) { return isAlpha(c) || c == '_'; }
static bool isNamePart(char c) { return isAlnum(c) || c == '_'; }

static bool isReserved(StringRef word) {
  return word == "true" || word == "false" || word == "in";
}

bool mlir::moe::isValidName(StringRef name) {
  return !name.empty() && isNameStart(name.front()) &&
         all_of(name, isNamePart) && !isReserved(name);
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

static bool isNumber(const json::Value &value) {
  return value.kind() == json::Value::Number;
}

static StringRef describeKind(const json::Value &value) {
  switch (value.kind()) {
  case json::Value::Null:
    return "null";
  case json::Value::Boolean:
    return "a boolean";
  case json::Value::Number:
    return value.getAsInteger() ? "an integer" : "a number with a fraction";
  case json::Value::String:
    return "a text";
  case json::Value::Array:
    return "a list";
  case json::Value::Object:
    return "a record";
  }
  llvm_unreachable("unknown kind of JSON value");
}

/// The fewest digits that give the same double again, with a point in them: IR
/// takes 1.0e-05 but not 1e-05.
static std::string formatDouble(double value) {
  std::string text;
  for (int digits = 1; digits <= std::numeric_limits<double>::max_digits10;
       ++digits) {
    text.clear();
    raw_string_ostream(text) << format("%.*g", digits, value);
    double again;
    if (!StringRef(text).getAsDouble(again) && again == value)
      break;
  }
  if (StringRef(text).contains('.'))
    return text;
  auto [mantissa, exponent] = StringRef(text).split('e');
  return (mantissa + ".0" + (exponent.empty() ? "" : "e") + exponent).str();
}

std::string mlir::moe::formatValue(const json::Value &value) {
  if (std::optional<bool> boolean = value.getAsBoolean())
    return *boolean ? "true" : "false";
  if (std::optional<int64_t> integer = value.getAsInteger())
    return itostr(*integer);
  if (std::optional<double> number = value.getAsNumber())
    return formatDouble(*number);
  if (std::optional<StringRef> string = value.getAsString())
    return string->str();
  if (const json::Array *list = value.getAsArray())
    return "[" + join(map_range(*list, formatValue), ", ") + "]";
  return describeKind(value).str();
}

/// Whether two values are equal, or nothing when they cannot be compared.
static std::optional<bool> areEqual(const json::Value &a,
                                    const json::Value &b) {
  if (a.kind() != b.kind() || a.kind() == json::Value::Array ||
      a.kind() == json::Value::Object)
    return std::nullopt;
  return a == b;
}

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

namespace {
/// Reads and evaluates in one go. After the first error all that is left reads
/// as null without a further one; so does a part that is not needed.
class Evaluator {
public:
  Evaluator(StringRef text, const json::Object &names)
      : text(text), rest(text), names(names) {}

  Expected<json::Value> evaluate();

private:
  json::Value readChoice();
  json::Value readDisjunction();
  json::Value readConjunction();
  json::Value readComparison();
  json::Value readSum();
  json::Value readProduct();
  json::Value readUnary();
  json::Value readPrimary();
  json::Value readText();
  json::Value readNumber();
  json::Value readName();

  json::Value calculate(char op, const json::Value &a, const json::Value &b);
  json::Value compare(StringRef op, const json::Value &a, const json::Value &b);
  json::Value contains(const json::Value &list, const json::Value &value);
  bool asCondition(const json::Value &value, StringRef op);

  json::Value fail(const Twine &message);
  bool failed() const { return !error.empty(); }
  bool isLive() const { return skipping == 0 && !failed(); }

  void skipSpace() { rest = rest.ltrim(); }
  bool consume(StringRef token);
  /// The first of `tokens` that comes next, consumed, or an empty string.
  StringRef consumeAny(ArrayRef<StringRef> tokens);
  StringRef peekWord();

  StringRef text;
  StringRef rest;
  const json::Object &names;
  std::string error;
  unsigned skipping = 0;
  unsigned depth = 0;
};

/// Counts something up while it lives.
struct Counted {
  explicit Counted(unsigned &counter, bool active = true)
      : counter(counter), active(active) {
    counter += active;
  }
  ~Counted() { counter -= active; }
  unsigned &counter;
  bool active;
};
} // namespace

json::Value Evaluator::fail(const Twine &message) {
  if (!failed() && skipping == 0)
    error = message.str();
  return nullptr;
}

StringRef Evaluator::peekWord() {
  skipSpace();
  if (rest.empty() || !isNameStart(rest.front()))
    return "";
  return rest.take_while(isNamePart);
}

bool Evaluator::consume(StringRef token) {
  skipSpace();
  if (isNameStart(token.front())) {
    if (peekWord() != token)
      return false;
  } else if (!rest.starts_with(token)) {
    return false;
  }
  rest = rest.drop_front(token.size());
  return true;
}

StringRef Evaluator::consumeAny(ArrayRef<StringRef> tokens) {
  for (StringRef token : tokens)
    if (consume(token))
      return token;
  return "";
}

Expected<json::Value> Evaluator::evaluate() {
  json::Value value = readChoice();
  skipSpace();
  if (!failed() && !rest.empty())
    fail("'" + rest.take_front() + "' is not expected at character " +
         Twine(text.size() - rest.size() + 1));
  if (failed())
    return createStringError("the expression " + quoteName(text) + ": " +
                             error);
  return value;
}

bool Evaluator::asCondition(const json::Value &value, StringRef op) {
  if (!isLive())
    return false;
  if (std::optional<bool> boolean = value.getAsBoolean())
    return *boolean;
  fail("'" + op + "' needs true or false, not " + describeKind(value));
  return false;
}

json::Value Evaluator::readChoice() {
  Counted guard(depth);
  if (depth > kMaxDepth) {
    // Not through `fail`: it matters even in a part that is not needed.
    if (!failed())
      error = ("more than " + Twine(kMaxDepth) + " levels of brackets").str();
    rest = "";
    return nullptr;
  }
  json::Value condition = readDisjunction();
  if (!consume("?"))
    return condition;
  bool first = asCondition(condition, "?:");
  json::Value yes = nullptr, no = nullptr;
  {
    Counted skip(skipping, !first);
    yes = readChoice();
  }
  if (!consume(":"))
    return fail("':' is missing after '?'");
  Counted skip(skipping, first);
  no = readChoice();
  return first ? yes : no;
}

json::Value Evaluator::readDisjunction() {
  json::Value value = readConjunction();
  while (consume("||")) {
    bool left = asCondition(value, "||");
    Counted skip(skipping, left);
    json::Value right = readConjunction();
    value = left || asCondition(right, "||");
  }
  return value;
}

json::Value Evaluator::readConjunction() {
  json::Value value = readComparison();
  while (consume("&&")) {
    bool left = asCondition(value, "&&");
    Counted skip(skipping, !left);
    json::Value right = readComparison();
    value = left && asCondition(right, "&&");
  }
  return value;
}

json::Value Evaluator::contains(const json::Value &list,
                                const json::Value &value) {
  const json::Array *elements = list.getAsArray();
  if (!elements)
    return fail("'in' needs a list, not " + describeKind(list));
  return any_of(*elements, [&](const json::Value &element) {
    return areEqual(element, value).value_or(false);
  });
}

json::Value Evaluator::compare(StringRef op, const json::Value &a,
                               const json::Value &b) {
  if (op == "==" || op == "!=") {
    std::optional<bool> equal = areEqual(a, b);
    if (!equal)
      return fail("'" + op + "' cannot compare " + describeKind(a) + " and " +
                  describeKind(b));
    return *equal == (op == "==");
  }
  if (!isNumber(a) || !isNumber(b))
    return fail("'" + op + "' needs two numbers, not " + describeKind(a) +
                " and " + describeKind(b));
  double x = *a.getAsNumber(), y = *b.getAsNumber();
  bool less = x < y, greater = x > y;
  // Doubles would lose the low bits of large integers.
  if (auto i = a.getAsInteger(), j = b.getAsInteger(); i && j) {
    less = *i < *j;
    greater = *i > *j;
  }
  if (op.front() == '<')
    return less || (op == "<=" && !greater);
  return greater || (op == ">=" && !less);
}

json::Value Evaluator::readComparison() {
  json::Value left = readSum();
  StringRef op = consumeAny({"==", "!=", "<=", ">=", "<", ">", "in"});
  if (op.empty())
    return left;
  json::Value right = readSum();
  if (!isLive())
    return nullptr;
  return op == "in" ? contains(right, left) : compare(op, left, right);
}

json::Value Evaluator::calculate(char op, const json::Value &a,
                                 const json::Value &b) {
  if (!isLive())
    return nullptr;
  std::optional<int64_t> x = a.getAsInteger(), y = b.getAsInteger();
  if (!x || !y)
    return fail("'" + Twine(op) + "' needs two integers, not " +
                describeKind(a) + " and " + describeKind(b));
  std::optional<int64_t> result;
  if (op == '+')
    result = checkedAdd(*x, *y);
  else if (op == '-')
    result = checkedSub(*x, *y);
  else if (op == '*')
    result = checkedMul(*x, *y);
  else if (*y == 0)
    return fail("division of " + Twine(*x) + " by 0");
  else if (*x != std::numeric_limits<int64_t>::min() || *y != -1)
    result = op == '/' ? *x / *y : *x % *y;
  if (!result)
    return fail(Twine(*x) + " " + Twine(op) + " " + Twine(*y) +
                " has more than 64 bits");
  return *result;
}

json::Value Evaluator::readSum() {
  json::Value value = readProduct();
  while (true) {
    StringRef op = consumeAny({"+", "-"});
    if (op.empty())
      return value;
    value = calculate(op.front(), value, readProduct());
  }
}

json::Value Evaluator::readProduct() {
  json::Value value = readUnary();
  while (true) {
    StringRef op = consumeAny({"*", "/", "%"});
    if (op.empty())
      return value;
    value = calculate(op.front(), value, readUnary());
  }
}

json::Value Evaluator::readUnary() {
  bool negate = false, invert = false;
  // Not recursive, so that a run of them cannot exhaust the stack.
  if (consume("!"))
    invert = true;
  else if (consume("-"))
    negate = true;
  json::Value value = readPrimary();
  if (invert)
    return !asCondition(value, "!");
  if (negate && isLive() && isNumber(value) && !value.getAsInteger())
    return -*value.getAsNumber();
  return negate ? calculate('-', 0, value) : value;
}

json::Value Evaluator::readPrimary() {
  skipSpace();
  if (rest.empty())
    return fail("something is missing at the end");
  if (consume("(")) {
    json::Value value = readChoice();
    if (!consume(")"))
      return fail("a ')' is missing");
    return value;
  }
  if (rest.front() == '\'')
    return readText();
  if (isDigit(rest.front()))
    return readNumber();
  if (isNameStart(rest.front()))
    return readName();
  json::Value value = fail("'" + rest.take_front() +
                           "' is not expected at character " +
                           Twine(text.size() - rest.size() + 1));
  rest = "";
  return value;
}

json::Value Evaluator::readText() {
  size_t end = rest.find('\'', 1);
  if (end == StringRef::npos) {
    rest = "";
    return fail("a text does not end: the closing ' is missing");
  }
  json::Value value = rest.slice(1, end).str();
  rest = rest.drop_front(end + 1);
  return value;
}

json::Value Evaluator::readNumber() {
  StringRef token = rest.take_while(
      [](char c) { return isAlnum(c) || c == '.' || c == '_'; });
  // The sign of an exponent.
  if (token.ends_with_insensitive("e") && rest.size() > token.size() &&
      (rest[token.size()] == '-' || rest[token.size()] == '+')) {
    size_t digits = rest.find_if_not(isDigit, token.size() + 1);
    token = rest.take_front(digits);
  }
  rest = rest.drop_front(token.size());
  int64_t integer;
  if (!token.getAsInteger(10, integer))
    return integer;
  double number;
  if (token.contains('.') && !token.getAsDouble(number))
    return number;
  return fail("'" + token + "' is no number (12, 0.5 and 1.0e-5 are)");
}

json::Value Evaluator::readName() {
  StringRef name = peekWord();
  rest = rest.drop_front(name.size());
  if (name == "true" || name == "false")
    return name == "true";
  if (const json::Value *value = names.get(name))
    return *value;
  return fail("there is no value named " + quoteName(name));
}

Expected<json::Value>
mlir::moe::evaluateExpression(StringRef expression,
                              const json::Object &names) {
  return Evaluator(expression, names).evaluate();
}

Expected<bool> mlir::moe::evaluateCondition(StringRef expression,
                                            const json::Object &names) {
  Expected<json::Value> value = evaluateExpression(expression, names);
  if (!value)
    return value.takeError();
  if (std::optional<bool> boolean = value->getAsBoolean())
    return *boolean;
  return createStringError("the expression " + quoteName(expression) + " is " +
                           formatValue(*value) +
                           ", but must be true or false");
}

std::string mlir::moe::describeNames(StringRef expression,
                                     const json::Object &names) {
  SetVector<StringRef> found;
  for (StringRef rest = expression; !rest.empty();) {
    if (rest.front() == '\'') {
      rest = rest.drop_front().split('\'').second;
      continue;
    }
    StringRef word = rest.take_while(isNamePart);
    if (isValidName(word) && names.get(word))
      found.insert(word);
    rest = rest.drop_front(std::max<size_t>(word.size(), 1));
  }
  return join(map_range(found, [&](StringRef name) {
                return (name + " = " + formatValue(*names.get(name))).str();
              }), ", ");
}
