//===- RowGroups.h - All rows of a dense matmul, in groups ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_ROWGROUPS_H
#define LIB_CONVERSION_ROWGROUPS_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Columns of a matmul that is a router's, at most: its weights are small
/// enough to be read again for each group of rows, and its blocks of columns
/// too few for many threads.
inline constexpr int64_t kMostRouterColumns = 512;

/// The offsets (a tensor) of a dense moe.grouped_matmul of the rows of `rows`:
/// one group of all of them.
Value buildRowGroup(OpBuilder &builder, Location loc, Value rows);

/// The same where blocks of columns are too few for many threads: up to 16
/// groups of a multiple of 120 rows, which follows from the number of rows.
Value buildRowGroups(OpBuilder &builder, Location loc, Value rows);

/// True if `op` is dense and of few columns.
bool isRouterLike(GroupedMatmulOp op);

} // namespace mlir::moe

#endif // LIB_CONVERSION_ROWGROUPS_H
