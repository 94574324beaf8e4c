//===- PlanKernel.h - The counting sort of choices by expert ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_PLANKERNEL_H
#define LIB_CONVERSION_GPU_PLANKERNEL_H

#include "KernelBuilder.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// A moe.plan, or the plan in a moe.route. Null where an operand is not given.
struct PlanProblem {
  Value ids, offsets, slots, source;
  Value capacity, priority, tokensPerGroup;
  CapacityOrder order;
  /// E of the offsets, and k.
  int64_t numExperts, topK;
  /// Of a block, which has a count for each of them and each expert in shared
  /// memory.
  int64_t numWarps;

  int64_t numThreads() const { return numWarps * kWarpSize; }
  int64_t sharedBytes() const;
};

/// The problem, on tensors or memrefs; an error says why it is none and what to
/// change.
llvm::Expected<PlanProblem> analyzePlan(PlanOp op);
llvm::Expected<PlanProblem> analyzePlan(RouteOp op);

/// Choices that a block should have at least, and blocks at most.
constexpr int64_t kChoicesPerBlock = 8192, kMaxPlanBlocks = 64;

/// What the kernels need beside the buffers; i32. Numbers of choices are T·k.
struct PlanSizes {
  Value numTokens, numChoices, numRows;
  /// Null without a capacity, and 1 ≤ tokensPerGroup.
  Value capacity, tokensPerGroup;
};

/// Builds the body of a kernel that writes how many choices of each expert each
/// block has to `counts`, kMaxPlanBlocks × E.
void buildCountKernel(KernelBuilder &b, const PlanProblem &problem,
                      const IRMapping &toDevice, const PlanSizes &sizes,
                      Value counts, Value shared);

/// Builds the body of the kernel that writes offsets, slots and source. It runs
/// with as many blocks as the other one; with a single block the other is not
/// needed, and `counts` may be null.
void buildPlaceKernel(KernelBuilder &b, const PlanProblem &problem,
                      const IRMapping &toDevice, const PlanSizes &sizes,
                      Value counts, Value shared);

/// Builds the body of the kernel that runs before them where there is a
/// capacity: slots become 0 for choices to keep and −1 for the others. Any
/// number of blocks.
void buildMarkKernel(KernelBuilder &b, const PlanProblem &problem,
                     const IRMapping &toDevice, const PlanSizes &sizes,
                     Value shared);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_PLANKERNEL_H
