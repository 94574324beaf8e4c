//===- Expression.h - Expressions over config fields ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The small language in which a family file derives its values from those of
/// `config.json`: "moe_intermediate_size * n_shared_experts", "layer >= 3".
///
///   literals    12  0.5  'text'  true  false
///   names       whatever the caller defines
///   operators   ?:   ||   &&   == != < <= > >= in   + -   * / %   ! -
///
/// They bind as in C, loosest first; comparisons do not chain. Integers have 64
/// bits, and `/` and `%` round towards zero. Only integers are calculated with;
/// any two numbers, two texts or two booleans are compared. `x in list` tells
/// whether the list has x; `list[i]` is its element i from 0 on, and
/// `size(list)` the number of them; a text is a list of characters to these
/// two. What is not needed (the other branch of `?:`, the right side of `&&`)
/// is not evaluated.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_IMPORT_EXPRESSION_H
#define MOE_IMPORT_EXPRESSION_H

#include "moe/Import/Value.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// The value of `expression`. The error quotes the expression.
llvm::Expected<Value> evaluateExpression(llvm::StringRef expression,
                                         const Names &names);

/// The same, for an expression that must be true or false.
llvm::Expected<bool> evaluateCondition(llvm::StringRef expression,
                                       const Names &names);

/// "k = 9, E = 8": the names in `expression` with their values, for a message
/// about an expression that could be evaluated.
std::string describeNames(llvm::StringRef expression, const Names &names);

/// Whether `name` may stand for a value: letters, digits and '_', no digit
/// first, and none of the words `true`, `false` and `in`.
bool isValidName(llvm::StringRef name);

} // namespace mlir::moe

#endif // MOE_IMPORT_EXPRESSION_H
