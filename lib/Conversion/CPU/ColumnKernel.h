//===- ColumnKernel.h - A tile of sums, of weights along n ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_COLUMNKERNEL_H
#define LIB_CONVERSION_CPU_COLUMNKERNEL_H

#include "BlockShuffles.h"
#include "MicroKernel.h"

namespace mlir::moe {

/// Terms whose weights lie among each other in one tensor, and are read
/// together: gate and up in turns, or one that has its columns for itself.
struct ColumnGroup {
  struct Member {
    unsigned product;
    /// 1 for the columns 2·n + 1.
    int64_t place;
  };
  const GroupedMatmulOp::Term *term;
  SmallVector<Member> members;
  /// From one column of a member to its next.
  int64_t stride;
};

/// How many elements, columns and vectors of them are read at once.
class ColumnShape {
public:
  ColumnShape(CPUMatmulAttr config, const ColumnGroup &group);

  /// Elements of k that a step multiplies.
  int64_t getStep() const { return step; }
  /// Columns of each member that a load brings.
  int64_t getColumnsOfLoad() const { return columnsOfLoad; }
  /// Elements of a load, and how many of them have to be there for `columns`.
  int64_t getElementsOfLoad() const { return columnsOfLoad * group.stride; }
  int64_t getElementsOf(int64_t columns) const;
  /// Vectors of weights, one for each accumulator of a row, that a load brings.
  int64_t getVectorsOfLoad() const {
    return getVectorsOfMember() * static_cast<int64_t>(group.members.size());
  }
  int64_t getVectorsOfMember() const { return columnsOfLoad / lanes; }
  /// Loads of a whole tile.
  int64_t getLoadsOfTile() const { return loadsOfTile; }
  int64_t getColumnsOfTile() const { return loadsOfTile * columnsOfLoad; }
  /// What the products multiply: pairs of bf16 or f32.
  VectorType getOperandType() const { return operandType; }

private:
  const ColumnGroup &group;
  int64_t lanes, step, columnsOfLoad, loadsOfTile;
  VectorType operandType;
};

/// A tile of rows × `numColumns` columns of each member of a group, over
/// `steps` steps of k from `start` on.
struct ColumnTile {
  CPUMatmulAttr config;
  const ColumnGroup &group;
  TileSums::Operand lhs;
  /// e; m and t of each row; n of the first column.
  MatmulIndices dims;
  ArrayRef<OpFoldResult> rows, tokens;
  int64_t numColumns;
  Value start, steps;
  /// Whether one element of k follows the steps, which take two.
  bool tail;
  /// Where the operands that weights are made into come from: the weights
  /// themselves, for a lone tile of rows or for the first of many, which stores
  /// them for the others in a panel [step, vector, lane].
  enum class Source { Weights, WeightsToPanel, Panel };
  Source source;
  Value panel;
  /// What is asked for on the way, from columns and elements of k that a later
  /// tile starts at: so many loads, of so many of a step's elements of k.
  struct Prefetch {
    Value expert, column, sum;
    int64_t loads, elements;
    bool toFirstCache;
  } prefetch;
};

/// Lanes of a pair of vectors: of each group of two blocks, the first one to
/// the first vector (`gather`), or back. Where a load brings two vectors of
/// pairs, columns are in the order that this gathers.
BlockShuffles getBlockOrder(int64_t lanes, bool gather);

/// Makes the operands of all steps of `tile` in its panel, and no sums.
void buildColumnPanel(OpBuilder &builder, Location loc, const ColumnTile &tile);

/// Adds to `sums`, one vector of `lanes` columns for each row, member and such
/// vector, in this order.
SmallVector<Value> buildColumnTile(OpBuilder &builder, Location loc,
                                   const ColumnTile &tile, ValueRange sums);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_COLUMNKERNEL_H
