//===- WeightPanel.h - Weights of a tile, decoded ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_WEIGHTPANEL_H
#define LIB_CONVERSION_CPU_WEIGHTPANEL_H

#include "MicroKernel.h"

namespace mlir::moe {

/// Why the decode region of `term` does not work on vectors along k; empty if
/// it does.
std::string findDecodeObstacle(const GroupedMatmulOp::Term &term);

/// The type of decoded weights: what the products multiply.
Type getWeightPanelType(CPUMatmulAttr config);

/// A row of a panel: k in [start, start + size) of column n and expert e of
/// `dims`, from place 0 of `row` on. It is as long as whole vectors.
struct WeightPanelRow {
  const GroupedMatmulOp::Term &term;
  CPUMatmulAttr config;
  MatmulIndices dims;
  int64_t start, size;
  Value panel, row;
};

/// Decodes weights to `row`. `prefetch` is called once for every few vectors,
/// with the k of the first one.
void buildWeightPanelRow(OpBuilder &builder, Location loc,
                         const WeightPanelRow &row,
                         function_ref<void(OpBuilder &, Value)> prefetch);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_WEIGHTPANEL_H
