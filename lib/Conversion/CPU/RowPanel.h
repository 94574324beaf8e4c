//===- RowPanel.h - Rows of a block, computed by a prologue -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_ROWPANEL_H
#define LIB_CONVERSION_CPU_ROWPANEL_H

#include "MicroKernel.h"

namespace mlir::moe {

/// The type of what is multiplied by the weights: the rows', or what their
/// prologue yields.
Type getRowType(const GroupedMatmulOp::Term &term);

/// The length of a panel's row that holds `size` elements of k.
int64_t getPanelLength(Type elementType, int64_t size, int64_t lanes);

/// Why the prologue of `term` does not work on vectors along k; empty if it
/// does.
std::string findPrologueObstacle(const GroupedMatmulOp::Term &term);

/// prologue(lhs[…, k], …) for `count` ≤ `lanes` elements of k from that of
/// `dims` on, with e, m, t and j from `dims` as well; what follows them means
/// nothing.
Value buildPrologueVector(OpBuilder &builder, Location loc,
                          const GroupedMatmulOp::Term &term,
                          const MatmulIndices &dims, int64_t count,
                          int64_t lanes);

/// panel[row, k − start] = prologue(lhs[…, k], …) for k in [start, start +
/// size), with e, m, t and j from `dims`. The panel's rows are whole vectors of
/// `lanes`.
void buildPanelRow(OpBuilder &builder, Location loc,
                   const GroupedMatmulOp::Term &term, MatmulIndices dims,
                   int64_t start, int64_t size, int64_t lanes, Value panel,
                   Value row);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_ROWPANEL_H
