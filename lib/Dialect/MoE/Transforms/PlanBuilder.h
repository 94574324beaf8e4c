//===- PlanBuilder.h - The counting sort of choices by expert -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_PLANBUILDER_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_PLANBUILDER_H

#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

namespace mlir::moe {

/// What moe.dispatch and moe.plan have in common. Null where an operand is not
/// given.
struct PlanOperands {
  Value ids, capacity, priority, tokensPerGroup;
  CapacityOrder order;
  Value offsetsInit, slotsInit;

  template <typename OpTy>
  static PlanOperands of(OpTy op) {
    return {op.getIds(),      op.getCapacity(),
            op.getPriority(), op.getTokensPerGroup(),
            op.getOrder(),    op.getOffsetsInit(),
            op.getSlotsInit()};
  }
};

/// Stores what row `row` (an index) of choice (token, choice) holds:
/// (builder, token, choice, row, rows) → rows.
using PlaceRow =
    function_ref<Carried(OpBuilder &, Value, Value, Value, ValueRange)>;

/// Builds the sort on tensors and calls `place` for every choice that has a
/// row. Returns offsets, slots, and what `place` made of `rows`.
Carried buildPlan(OpBuilder &builder, Location loc,
                  const PlanOperands &operands, ValueRange rows,
                  PlaceRow place);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_PLANBUILDER_H
