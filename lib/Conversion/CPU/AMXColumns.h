//===- AMXColumns.h - AMX sums of weights along n ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_AMXCOLUMNS_H
#define LIB_CONVERSION_CPU_AMXCOLUMNS_H

#include "ColumnKernel.h"
#include "MatmulBlock.h"

namespace mlir::moe {

/// Elements of k whose weights are in the panel at a time: 32 KB.
inline constexpr int64_t kAMXPanelLength = 512;

/// Adds a part of the sums of all members of `group` to the scratch block, from
/// a panel of rows as they are. Parts of a term come one after the other.
void buildAMXColumnPart(OpBuilder &builder, const MatmulBuilder &matmul,
                        const MatmulBlock &block, const BlockRows &rows,
                        const ColumnGroup &group, const SumPart &part);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_AMXCOLUMNS_H
