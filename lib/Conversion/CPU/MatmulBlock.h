//===- MatmulBlock.h - The sums of a block of columns -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_MATMULBLOCK_H
#define LIB_CONVERSION_CPU_MATMULBLOCK_H

#include "MatmulBuilder.h"

namespace mlir::moe {

/// A panel for each element type.
using Panels = llvm::SmallDenseMap<Type, Value>;

/// What AMX reads and writes besides: a panel of rows (tiles of rows × k / 2 ×
/// 32), two tiles of weights, and a tile of results. Null without AMX.
struct AMXBuffers {
  Value panel, edge, result;
};

/// Columns [begin, end), the scratch for their sums (products × rows ×
/// columns), and panels for weights that run along n and for those of a tile
/// that are decoded (null where none are), and for rows that a prologue
/// computes; all on the stack of the task.
struct MatmulBlock {
  Value begin, end, scratch, columnPanel, weightPanel;
  Panels rowPanels;
  AMXBuffers amx = {};
};

/// Rows [first, first + count) of an expert, at most block_rows, and the expert
/// whose rows the same block computes next (null if that is not known).
struct BlockRows {
  Value expert, first, count, nextExpert;
};

/// `length` elements of k split into equal parts of at most block_sum.
int64_t getPartLength(CPUMatmulAttr config, int64_t length);

/// Parts of k that a block's rows are multiplied over at once where vectors run
/// along n, whose parts are short.
inline constexpr int64_t kColumnParts = 4;

/// The elements of k, of `bytes` each, that the panels of packed weights are
/// multiplied over at once: whole parts, as many as 4 KB of a row have.
int64_t getStretch(int64_t part, int64_t bytes);

/// The elements of k that a block's rows are multiplied over at once, which are
/// in the second cache meanwhile: a part's, or those of several parts.
int64_t getRowPartLength(CPUMatmulAttr config,
                         const GroupedMatmulOp::Term &term);

/// k in [start, start + size) of the sum of a term; all but the first part of a
/// product add to what is there.
struct SumPart {
  const GroupedMatmulOp::Term &term;
  unsigned product;
  int64_t start, size;
  bool accumulate;

  bool isLast() const { return start + size >= term.getLength(); }
  /// From here to the next part of the term or, after the last, to the first.
  int64_t getShiftToNext() const { return isLast() ? -start : size; }
};

/// The sums of all products, term by term, in parts of at most `partLength`.
std::vector<SumPart>
splitSums(ArrayRef<GroupedMatmulOp::Product> products,
          function_ref<int64_t(const GroupedMatmulOp::Term &)> partLength);

/// Block number `block` of the columns.
MatmulBlock buildBlock(OpBuilder &builder, const MatmulBuilder &matmul,
                       Value block);

/// scratch[p, i, n − begin] = product p of row first + i and column n.
void buildBlockSums(OpBuilder &builder, const MatmulBuilder &matmul,
                    const MatmulBlock &block, const BlockRows &rows);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_MATMULBLOCK_H
