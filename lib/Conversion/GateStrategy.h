//===- GateStrategy.h - How gates and plans run on a CPU --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GATESTRATEGY_H
#define LIB_CONVERSION_GATESTRATEGY_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Why moe-gate-to-vector cannot lower `op`, and what to change; empty if it
/// can.
std::string findGateObstacle(GateOp op);

/// The same for moe-plan-to-loops.
std::string findPlanObstacle(PlanOp op);

/// What moe-select-cpu-strategy writes on such ops: a dictionary that says how
/// many tokens a task has. As the same tokens are in a task whatever the number
/// of threads, so are results the same.
DictionaryAttr getTokenTasks(MLIRContext *context, int64_t blockTokens);

/// The `block_tokens` that `op` has, 0 if it has no such strategy. Fails, with
/// an error, where it is none.
FailureOr<int64_t> getBlockTokens(Operation *op);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GATESTRATEGY_H
