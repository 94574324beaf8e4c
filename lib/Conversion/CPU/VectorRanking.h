//===- VectorRanking.h - The best of a row, in registers --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_VECTORRANKING_H
#define LIB_CONVERSION_CPU_VECTORRANKING_H

#include "VectorRow.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Elements of a row in the order of selection (key descending, id ascending)
/// as numbers: of two elements, that with the larger i64 comes first. The upper
/// half is the key as an integer of the same order, the lower one the id
/// inverted; so all numbers differ, and the smallest i64 is none of them: it
/// stands for an element that was taken, and for padding.
class VectorRanking {
public:
  /// Of keys without NaN.
  VectorRanking(OpBuilder &builder, Location loc, const VectorRow &keys);
  /// Numbers that a loop carries, in the order of getNumbers().
  VectorRanking(Location loc, int64_t size, ValueRange numbers)
      : loc(loc), size(size), numbers(numbers) {}

  ArrayRef<Value> getNumbers() const { return numbers; }

  /// The number of the first element that is left, in every lane.
  Value findBest(OpBuilder &builder) const;
  /// Takes the element with that number.
  void take(OpBuilder &builder, Value best);
  /// The id (i32) of a number in every lane; −1 if no element was left.
  Value getId(OpBuilder &builder, Value best) const;

  /// Gives the experts outside the best groups the key that `groups` names.
  void maskGroups(OpBuilder &builder, GroupsAttr groups);

private:
  Location loc;
  int64_t size;
  SmallVector<Value> numbers;

  VectorRanking slice(OpBuilder &builder, int64_t begin, int64_t end) const;
  Value buildGroupScore(OpBuilder &builder, int64_t begin, int64_t end,
                        GroupScore score) const;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_VECTORRANKING_H
