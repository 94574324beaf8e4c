//===- AMXPanels.h - AMX sums of packed weights -----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_AMXPANELS_H
#define LIB_CONVERSION_CPU_AMXPANELS_H

#include "PackedBlock.h"

namespace mlir::moe {

/// The products of `sum`, to the block's scratch or added to what is there;
/// rows are where AMXBuilder::firstPanelTile says.
void buildAMXPanelPart(OpBuilder &builder, const MatmulBuilder &matmul,
                       const MatmulBlock &block, const BlockRows &rows,
                       const PackedSum &sum);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_AMXPANELS_H
