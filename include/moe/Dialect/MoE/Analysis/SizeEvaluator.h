//===- SizeEvaluator.h - Sizes of tensors, in numbers -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_ANALYSIS_SIZEEVALUATOR_H
#define MOE_DIALECT_MOE_ANALYSIS_SIZEEVALUATOR_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"
#include <functional>
#include <optional>

namespace mlir::moe {

/// Computes sizes of tensors and index values in numbers, given the sizes of a
/// function's arguments. Shapes follow from operands, so it looks at those, and
/// changes no IR.
class SizeEvaluator {
public:
  /// The size of dimension `dim` of a function's argument; none if unknown.
  using ArgumentSize =
      std::function<std::optional<int64_t>(BlockArgument, unsigned dim)>;

  explicit SizeEvaluator(ArgumentSize argumentSize)
      : argumentSize(std::move(argumentSize)) {}

  /// The same, where the experts in moe.expert have `numRows` rows.
  SizeEvaluator forRows(int64_t numRows) const {
    SizeEvaluator evaluator(argumentSize);
    evaluator.rowsOfExpert = numRows;
    return evaluator;
  }

  /// The size of dimension `dim` of a ranked tensor; none if unknown.
  std::optional<int64_t> getSize(Value tensor, unsigned dim);

  /// The product of all sizes of a ranked tensor, as a double, which does not
  /// overflow; none if one is unknown.
  std::optional<double> getNumElements(Value tensor);

  /// The value of an index or an integer; none if unknown.
  std::optional<int64_t> getValue(Value value);

private:
  std::optional<int64_t> getArgumentSize(BlockArgument argument, unsigned dim);
  std::optional<int64_t> getResultSize(OpResult result, unsigned dim);
  std::optional<int64_t> fold(Value value);

  ArgumentSize argumentSize;
  std::optional<int64_t> rowsOfExpert;
  llvm::DenseMap<Value, std::optional<int64_t>> values;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_ANALYSIS_SIZEEVALUATOR_H
