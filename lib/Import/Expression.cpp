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
#include <limits>

using namespace llvm;
using namespace mlir::moe;
using Value = mlir::moe::Value; // llvm has one, too.

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

/// Whether two values are equal, or nothing when they cannot be compared.
static std::optional<bool> areEqual(const Value &a, const Value &b) {
  if (const auto *x = a.getAs<bool>(), *y = b.getAs<bool>(); x && y)
    return *x == *y;
  if (const auto *x = a.getAs<int64_t>(), *y = b.getAs<int64_t>(); x && y)
    return *x == *y;
  if (a.isNumber() && b.isNumber())
    return a.getNumber() == b.getNumber();
  if (const auto *x = a.getAs<std::string>(), *y = b.getAs<std::string>();
      x && y)
    return *x == *y;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

namespace {
/// Reads and evaluates in one go. After the first error nothing that is left
/// makes a further one, whatever its value; nor does a part that is not needed.
class Evaluator {
public:
  Evaluator(StringRef text, const Names &names)
      : text(text), rest(text), names(names) {}

  Expected<Value> evaluate();

private:
  Value readChoice();
  Value readDisjunction();
  Value readConjunction();
  Value readComparison();
  Value readSum();
  Value readProduct();
  Value readUnary();
  Value readIndexed();
  Value readPrimary();
  Value readText();
  Value readNumber();
  Value readName();
  Value readSize();

  Value calculate(char op, const Value &a, const Value &b);
  Value compare(StringRef op, const Value &a, const Value &b);
  Value contains(const Value &list, const Value &value);
  Value getElement(const Value &list, const Value &index);
  std::optional<size_t> getSize(const Value &list, const Twine &who);
  bool asCondition(const Value &value, StringRef op);

  Value fail(const Twine &message);
  bool failed() const { return !error.empty(); }
  bool isLive() const { return skipping == 0 && !failed(); }

  void skipSpace() { rest = rest.ltrim(); }
  bool consume(StringRef token);
  /// The first of `tokens` that comes next, consumed, or an empty string.
  StringRef consumeAny(ArrayRef<StringRef> tokens);
  StringRef peekWord();

  StringRef text;
  StringRef rest;
  const Names &names;
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

Value Evaluator::fail(const Twine &message) {
  if (!failed() && skipping == 0)
    error = message.str();
  return false;
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

Expected<Value> Evaluator::evaluate() {
  Value value = readChoice();
  skipSpace();
  if (!failed() && !rest.empty())
    fail("'" + rest.take_front() + "' is not expected at character " +
         Twine(text.size() - rest.size() + 1));
  if (failed())
    return createStringError("the expression " + quoteName(text) + ": " +
                             error);
  return value;
}

bool Evaluator::asCondition(const Value &value, StringRef op) {
  if (!isLive())
    return false;
  if (const bool *boolean = value.getAs<bool>())
    return *boolean;
  fail("'" + op + "' needs true or false, not " + describeKind(value));
  return false;
}

Value Evaluator::readChoice() {
  Counted guard(depth);
  if (depth > kMaxDepth) {
    // Not through `fail`: it matters even in a part that is not needed.
    if (!failed())
      error = ("more than " + Twine(kMaxDepth) + " levels of brackets").str();
    rest = "";
    return false;
  }
  Value condition = readDisjunction();
  if (!consume("?"))
    return condition;
  bool first = asCondition(condition, "?:");
  Value yes, no;
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

Value Evaluator::readDisjunction() {
  Value value = readConjunction();
  while (consume("||")) {
    bool left = asCondition(value, "||");
    Counted skip(skipping, left);
    Value right = readConjunction();
    value = left || asCondition(right, "||");
  }
  return value;
}

Value Evaluator::readConjunction() {
  Value value = readComparison();
  while (consume("&&")) {
    bool left = asCondition(value, "&&");
    Counted skip(skipping, !left);
    Value right = readComparison();
    value = left && asCondition(right, "&&");
  }
  return value;
}

Value Evaluator::contains(const Value &list, const Value &value) {
  if (const auto *texts = list.getAs<std::vector<std::string>>()) {
    const auto *text = value.getAs<std::string>();
    return text && is_contained(*texts, *text);
  }
  const auto *elements = list.getAs<std::vector<int64_t>>();
  if (!elements)
    return fail("'in' needs a list, not " + describeKind(list));
  return any_of(*elements, [&](int64_t element) {
    return areEqual(element, value).value_or(false);
  });
}

Value Evaluator::compare(StringRef op, const Value &a, const Value &b) {
  if (op == "==" || op == "!=") {
    std::optional<bool> equal = areEqual(a, b);
    if (!equal)
      return fail("'" + op + "' cannot compare " + describeKind(a) + " and " +
                  describeKind(b));
    return *equal == (op == "==");
  }
  if (!a.isNumber() || !b.isNumber())
    return fail("'" + op + "' needs two numbers, not " + describeKind(a) +
                " and " + describeKind(b));
  double x = a.getNumber(), y = b.getNumber();
  bool less = x<y, greater = x> y;
  // Doubles would lose the low bits of large integers.
  if (const auto *i = a.getAs<int64_t>(), *j = b.getAs<int64_t>(); i && j) {
    less = *i < *j;
    greater = *i > *j;
  }
  if (op.front() == '<')
    return less || (op == "<=" && !greater);
  return greater || (op == ">=" && !less);
}

Value Evaluator::readComparison() {
  Value left = readSum();
  StringRef op = consumeAny({"==", "!=", "<=", ">=", "<", ">", "in"});
  if (op.empty())
    return left;
  Value right = readSum();
  if (!isLive())
    return false;
  return op == "in" ? contains(right, left) : compare(op, left, right);
}

Value Evaluator::calculate(char op, const Value &a, const Value &b) {
  if (!isLive())
    return false;
  const auto *x = a.getAs<int64_t>(), *y = b.getAs<int64_t>();
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

Value Evaluator::readSum() {
  Value value = readProduct();
  while (true) {
    StringRef op = consumeAny({"+", "-"});
    if (op.empty())
      return value;
    value = calculate(op.front(), value, readProduct());
  }
}

Value Evaluator::readProduct() {
  Value value = readUnary();
  while (true) {
    StringRef op = consumeAny({"*", "/", "%"});
    if (op.empty())
      return value;
    value = calculate(op.front(), value, readUnary());
  }
}

Value Evaluator::readUnary() {
  bool negate = false, invert = false;
  // Not recursive, so that a run of them cannot exhaust the stack.
  if (consume("!"))
    invert = true;
  else if (consume("-"))
    negate = true;
  Value value = readIndexed();
  if (invert)
    return !asCondition(value, "!");
  if (!negate)
    return value;
  if (const double *number = value.getAs<double>())
    return -*number;
  return calculate('-', int64_t(0), value);
}

/// The number of elements of a list, or of characters of a text.
std::optional<size_t> Evaluator::getSize(const Value &list, const Twine &who) {
  if (const auto *integers = list.getAs<std::vector<int64_t>>())
    return integers->size();
  if (const auto *texts = list.getAs<std::vector<std::string>>())
    return texts->size();
  if (const auto *text = list.getAs<std::string>())
    return text->size();
  fail(who + " needs a list or a text, not " + describeKind(list));
  return std::nullopt;
}

Value Evaluator::getElement(const Value &list, const Value &index) {
  if (!isLive())
    return false;
  std::optional<size_t> size = getSize(list, "'[]'");
  const auto *number = index.getAs<int64_t>();
  if (size && !number)
    return fail("'[]' needs an integer, not " + describeKind(index));
  if (!size)
    return false;
  if (*number < 0 || static_cast<uint64_t>(*number) >= *size)
    return fail("there is no element " + Twine(*number) + " in " +
                describeKind(list) + " of " + Twine(*size));
  if (const auto *integers = list.getAs<std::vector<int64_t>>())
    return (*integers)[*number];
  if (const auto *texts = list.getAs<std::vector<std::string>>())
    return (*texts)[*number];
  return std::string(1, (*list.getAs<std::string>())[*number]);
}

Value Evaluator::readIndexed() {
  Value value = readPrimary();
  while (consume("[")) {
    Value index = readChoice();
    if (!consume("]"))
      return fail("a ']' is missing");
    value = getElement(value, index);
  }
  return value;
}

/// What follows the word `size`.
Value Evaluator::readSize() {
  Value list = readChoice();
  if (!consume(")"))
    return fail("a ')' is missing");
  if (!isLive())
    return false;
  std::optional<size_t> size = getSize(list, "'size'");
  return static_cast<int64_t>(size.value_or(0));
}

Value Evaluator::readPrimary() {
  skipSpace();
  if (rest.empty())
    return fail("something is missing at the end");
  if (consume("(")) {
    Value value = readChoice();
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
  Value value =
      fail("'" + rest.take_front() + "' is not expected at character " +
           Twine(text.size() - rest.size() + 1));
  rest = "";
  return value;
}

Value Evaluator::readText() {
  size_t end = rest.find('\'', 1);
  if (end == StringRef::npos) {
    rest = "";
    return fail("a text does not end: the closing ' is missing");
  }
  Value value = rest.slice(1, end).str();
  rest = rest.drop_front(end + 1);
  return value;
}

Value Evaluator::readNumber() {
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

Value Evaluator::readName() {
  StringRef name = peekWord();
  rest = rest.drop_front(name.size());
  if (name == "true" || name == "false")
    return name == "true";
  if (name == "size" && consume("("))
    return readSize();
  if (const Value *value = names.find(name))
    return *value;
  return fail("there is no value named " + quoteName(name));
}

Expected<Value> mlir::moe::evaluateExpression(StringRef expression,
                                              const Names &names) {
  return Evaluator(expression, names).evaluate();
}

Expected<bool> mlir::moe::evaluateCondition(StringRef expression,
                                            const Names &names) {
  Expected<Value> value = evaluateExpression(expression, names);
  if (!value)
    return value.takeError();
  if (const bool *boolean = value->getAs<bool>())
    return *boolean;
  return createStringError("the expression " + quoteName(expression) + " is " +
                           formatValue(*value) + ", but must be true or false");
}

std::string mlir::moe::describeNames(StringRef expression, const Names &names) {
  SetVector<StringRef> found;
  for (StringRef rest = expression; !rest.empty();) {
    if (rest.front() == '\'') {
      rest = rest.drop_front().split('\'').second;
      continue;
    }
    StringRef word = rest.take_while(isNamePart);
    if (isValidName(word) && names.find(word))
      found.insert(word);
    rest = rest.drop_front(std::max<size_t>(word.size(), 1));
  }
  return join(
      map_range(found,
                [&](StringRef name) {
                  return (name + " = " + formatValue(*names.find(name))).str();
                }),
      ", ");
}
