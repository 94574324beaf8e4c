//===- PackedKernel.h - A tile of sums, of packed weights -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_PACKEDKERNEL_H
#define LIB_CONVERSION_CPU_PACKEDKERNEL_H

#include "MicroKernel.h"

namespace mlir::moe {

/// Packed weights with the elements of a step in one dimension: E × panels ×
/// steps × 32 or 64. A step is what of k lies beside each other.
struct PackedWeights {
  /// The operand of `term` so.
  PackedWeights(OpBuilder &builder, Location loc,
                const GroupedMatmulOp::Term &term);

  /// Where k = `sum` begins in the panel at `column` of an expert.
  SmallVector<Value> placeOf(OpBuilder &builder, Location loc,
                             OpFoldResult expert, OpFoldResult column,
                             Value sum) const;
  /// Asks for `numLines` cache lines from `at` on, into the first cache;
  /// `weights` are these or others of their type.
  void prefetch(OpBuilder &builder, Location loc, Value weights,
                SmallVector<Value> at, int64_t numLines) const;
  /// The elements of a cache line.
  int64_t getLineSize() const;

  Value buffer;
  /// The slab of an expert, over the dimensions of the op.
  AffineMap expert;
  /// Elements of k in a step (2 of bf16, 1 otherwise), and of weights.
  int64_t pair, stepSize;
};

/// What the steps of a tile ask for, which later ones multiply.
struct PackedAhead {
  /// Of `weights` of an expert and a panel, from `element` elements after those
  /// of `sum` on, `growth` elements further each step; as many cache lines at
  /// once as a step has. A tile of several panels asks for as much of each.
  /// Null for none.
  struct {
    Value weights, expert, column, sum, element, growth;
  } panel;
  /// Of rows that lie one after the other: from an element of a row on,
  /// `growth` elements further each step; null for none.
  struct {
    Value row, element;
    int64_t growth;
  } rows;
};

/// A tile of rows × the columns of `numPanels` panels side by side, over
/// `steps` steps of k from `begin` on, a multiple of a step.
struct PackedTile {
  CPUMatmulAttr config;
  const PackedWeights &weights;
  int64_t numPanels;
  TileSums::Operand lhs;
  /// e; m and t of each row; n of the first panel's first column.
  MatmulIndices dims;
  ArrayRef<OpFoldResult> rows, tokens;
  Value begin, steps;
  /// Whether one element of k follows the steps, which take two.
  bool tail;
  /// What is asked for on the way.
  const PackedAhead &ahead;
};

/// Adds to `sums`, one vector of `lanes` columns for each row and such vector,
/// in this order.
SmallVector<Value> buildPackedTile(OpBuilder &builder, Location loc,
                                   const PackedTile &tile, ValueRange sums);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_PACKEDKERNEL_H
