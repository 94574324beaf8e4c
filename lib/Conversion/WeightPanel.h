//===- WeightPanel.h - Weights of a block, turned to run along k *- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_WEIGHTPANEL_H
#define LIB_CONVERSION_WEIGHTPANEL_H

#include "MicroKernel.h"

namespace mlir::moe {

Type getWeightType(const GroupedMatmulOp::Term &term);

/// True if the weights of `term` are stored with k last, as the micro-kernel
/// reads them.
bool runsAlongSum(const GroupedMatmulOp::Term &term);

/// True if they can be turned: n is last and elements have 16 or 32 bits.
bool canTurn(const GroupedMatmulOp::Term &term);

/// The length of a panel's row that holds `size` elements of k.
int64_t getPanelLength(Type elementType, int64_t size, int64_t lanes);

/// A part of the weights of a block.
struct PanelPart {
  const GroupedMatmulOp::Term &term;
  OpFoldResult expert;
  /// Columns [begin, end); `numLeft(column)` of them follow `column` before N,
  /// null if that is always a whole vector.
  Value begin, end;
  function_ref<Value(OpBuilder &, Value)> numLeft;
  /// k in [start, start + size).
  int64_t start, size;
  int64_t lanes;
};

/// panel[n − begin, k − start] = weight[e, k, n], 0 for the rest of a panel's
/// rows.
void buildPanel(OpBuilder &builder, Location loc, const PanelPart &part,
                Value panel);

} // namespace mlir::moe

#endif // LIB_CONVERSION_WEIGHTPANEL_H
