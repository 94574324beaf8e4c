//===- Value.h - What a name in a family file stands for --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IMPORT_VALUE_H
#define MOE_IMPORT_VALUE_H

#include "llvm/ADT/StringRef.h"
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mlir::moe {

class Value;

/// Names with their values, in the order in which they were set.
class Names {
public:
  using Entry = std::pair<std::string, Value>;

  Names();
  Names(const Names &);
  Names(Names &&) noexcept;
  Names &operator=(const Names &);
  Names &operator=(Names &&) noexcept;
  ~Names();

  /// The value of `name`, or null.
  const Value *find(llvm::StringRef name) const;
  /// Defines `name`, or gives it another value.
  void set(llvm::StringRef name, Value value);

  std::vector<Entry>::const_iterator begin() const { return entries.begin(); }
  std::vector<Entry>::const_iterator end() const { return entries.end(); }

private:
  std::vector<Entry> entries;
};

/// A boolean, an integer, a number that may have a fraction, a text, a list of
/// integers or of texts, or a record of names. Unlike in JSON 1 and 1.0 differ:
/// IR wants a point in a float.
class Value : public std::variant<bool, int64_t, double, std::string,
                                  std::vector<int64_t>,
                                  std::vector<std::string>, Names> {
public:
  using variant::variant;

  /// The value if it is a T, or null.
  template <typename T>
  const T *getAs() const {
    return std::get_if<T>(this);
  }
  bool isNumber() const { return getAs<int64_t>() || getAs<double>(); }
  /// An integer or a double as a double.
  double getNumber() const;
};

/// The value as IR writes it: 64, 2.5 (always with a point), true, text. A list
/// comes in brackets and a record as "a record", for messages only.
std::string formatValue(const Value &value);

/// "an integer", "a text": what the value is, for messages.
llvm::StringRef describeKind(const Value &value);

} // namespace mlir::moe

#endif // MOE_IMPORT_VALUE_H
