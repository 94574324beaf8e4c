//===- VectorRow.h - A row of numbers in vector registers -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_VECTORROW_H
#define LIB_CONVERSION_CPU_VECTORROW_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/SmallVector.h"

namespace mlir::moe {

/// All lanes of `vector` combined by `combine`, in every lane of the result:
/// lane l takes lane l ^ 8, then l ^ 4, l ^ 2, l ^ 1 (of 16 lanes). Of a
/// commutative operation, lane 0 is the fixed tree of sums.
Value foldLanes(OpBuilder &builder, Location loc, Value vector,
                function_ref<Value(Value, Value)> combine);

/// `values` (not none) combined by `combine` in a balanced tree.
Value foldTree(ArrayRef<Value> values,
               function_ref<Value(Value, Value)> combine);

/// A row of f32, kSumLanes a vector; lanes beyond `size` are padding, and each
/// function says what it needs there. Bits are those of the scalar recipes in
/// DecidingMath.h and of moe.gate's decomposition.
class VectorRow {
public:
  VectorRow(int64_t size, ArrayRef<Value> vectors)
      : size(size), vectors(vectors) {}

  /// Vectors that a row of `size` needs.
  static int64_t getNumVectors(int64_t size);
  /// vector<16xf32>.
  static VectorType getType(Builder &builder);
  /// Reads row `at` (all indices but the last one's) of `buffer`, whose
  /// elements are adjacent; padding is 0.
  static VectorRow load(OpBuilder &builder, Location loc, Value buffer,
                        Value at, int64_t size);
  /// Reads a buffer of one dimension.
  static VectorRow load(OpBuilder &builder, Location loc, Value buffer,
                        int64_t size);

  int64_t getSize() const { return size; }
  ArrayRef<Value> getVectors() const { return vectors; }

  VectorRow map(function_ref<Value(Value)> function) const;
  /// The same with `padding` (a number) in the lanes beyond the size.
  VectorRow pad(OpBuilder &builder, Location loc, double padding) const;
  /// Stores the elements to `buffer` from (`at`, 0) on, or from 0 on.
  void store(OpBuilder &builder, Location loc, Value buffer, Value at) const;

  /// The fixed tree of sums, in every lane; padding is 0.
  Value buildSum(OpBuilder &builder, Location loc) const;
  /// Softmax with the rules of moe.gate; the row has no NaN, its padding is
  /// −inf. The result's padding is 0.
  VectorRow buildSoftmax(OpBuilder &builder, Location loc) const;

private:
  int64_t size;
  SmallVector<Value> vectors;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_VECTORROW_H
