//===- Value.cpp - What a name in a family file stands for ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Value.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <limits>

using namespace llvm;
// Not all of mlir::moe, since llvm has a Value as well.
using mlir::moe::Names;
using Value = mlir::moe::Value;

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

// Here, where Value is complete.
Names::Names() = default;
Names::Names(const Names &) = default;
Names::Names(Names &&) noexcept = default;
Names &Names::operator=(const Names &) = default;
Names &Names::operator=(Names &&) noexcept = default;
Names::~Names() = default;

const Value *Names::find(StringRef name) const {
  for (const Entry &entry : entries)
    if (entry.first == name)
      return &entry.second;
  return nullptr;
}

void Names::set(StringRef name, Value value) {
  for (Entry &entry : entries)
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  entries.emplace_back(name.str(), std::move(value));
}

//===----------------------------------------------------------------------===//
// Value
//===----------------------------------------------------------------------===//

double Value::getNumber() const {
  if (const int64_t *integer = getAs<int64_t>())
    return static_cast<double>(*integer);
  return *getAs<double>();
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

std::string mlir::moe::formatValue(const Value &value) {
  if (const bool *boolean = value.getAs<bool>())
    return *boolean ? "true" : "false";
  if (const int64_t *integer = value.getAs<int64_t>())
    return itostr(*integer);
  if (const double *number = value.getAs<double>())
    return formatDouble(*number);
  if (const std::string *text = value.getAs<std::string>())
    return *text;
  if (const auto *list = value.getAs<std::vector<int64_t>>())
    return "[" + join(map_range(*list, itostr), ", ") + "]";
  if (const auto *list = value.getAs<std::vector<std::string>>())
    return "[" + join(*list, ", ") + "]";
  return describeKind(value).str();
}

StringRef mlir::moe::describeKind(const Value &value) {
  static constexpr StringLiteral kinds[] = {
      "a boolean", "an integer", "a number with a fraction",
      "a text",    "a list",     "a list of texts",
      "a record"};
  return kinds[value.index()];
}
