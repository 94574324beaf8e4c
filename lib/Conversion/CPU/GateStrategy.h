//===- GateStrategy.h - How gates and plans run on a CPU --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_GATESTRATEGY_H
#define LIB_CONVERSION_CPU_GATESTRATEGY_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Why moe-gate-to-vector cannot lower `op`, and what to change; empty if it
/// can.
std::string findGateObstacle(GateOp op);

/// The same for moe-plan-to-loops.
std::string findPlanObstacle(PlanOp op);

/// Replaces all `OpTy` on buffers below `root` that have a strategy by what
/// `lower` builds with so many tokens a task.
template <typename OpTy>
LogicalResult
lowerTokenTasks(Operation *root, function_ref<std::string(OpTy)> findObstacle,
                function_ref<void(OpBuilder &, OpTy, int64_t)> lower) {
  SmallVector<OpTy> ops;
  root->walk([&](OpTy op) {
    if (op.hasPureBufferSemantics() &&
        op->hasAttr(LoweringConfigInterface::kName))
      ops.push_back(op);
  });
  for (OpTy op : ops) {
    if (std::string obstacle = findObstacle(op); !obstacle.empty())
      return op->emitOpError("has a lowering_config, but ") << obstacle;
    auto config = op->template getAttrOfType<CPURoutingAttr>(
        LoweringConfigInterface::kName);
    OpBuilder builder(op);
    lower(builder, op, config.getBlockTokens());
    op->erase();
  }
  return success();
}

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_GATESTRATEGY_H
