//===- ColumnBlock.h - The sums of a block, of weights along n --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_COLUMNBLOCK_H
#define LIB_CONVERSION_CPU_COLUMNBLOCK_H

#include "ColumnKernel.h"
#include "MatmulBlock.h"

namespace mlir::moe {

/// The terms whose weights run along n, each in one group; a group points into
/// `products`.
SmallVector<ColumnGroup>
findColumnGroups(ArrayRef<GroupedMatmulOp::Product> products);

/// The panel that all of `groups` take turns to use; null where there are none.
MemRefType getColumnPanelType(CPUMatmulAttr config,
                              ArrayRef<ColumnGroup> groups);

/// Elements of k in [start, start + size), and where rows have them.
struct ColumnSum {
  int64_t start, size;
  TileSums::Operand lhs;
};

/// Adds the products of `group` over `sum` to the block's scratch.
void buildColumnSums(OpBuilder &builder, const MatmulBuilder &matmul,
                     const MatmulBlock &block, const BlockRows &rows,
                     const ColumnGroup &group, const ColumnSum &sum);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_COLUMNBLOCK_H
