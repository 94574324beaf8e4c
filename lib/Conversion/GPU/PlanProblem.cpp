//===- PlanProblem.cpp - Which plans a kernel can do --------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PlanKernel.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// What every GPU gives a block without being asked.
static constexpr int64_t kSharedBytes = 48 * 1024;

/// Rows of the counts, then offsets (one more than experts), and counts of the
/// blocks before.
static int64_t getSharedBytes(int64_t numWarps, int64_t numExperts) {
  return 4 * ((numWarps + 2) * numExperts + 1);
}

int64_t PlanProblem::sharedBytes() const {
  return getSharedBytes(numWarps, numExperts);
}

/// Checks what plans of all ops have in common, and fills in what follows.
static llvm::Expected<PlanProblem> finish(PlanProblem problem) {
  if (ShapedType::isDynamic(problem.numExperts) ||
      ShapedType::isDynamic(problem.topK))
    return llvm::createStringError(
        "a kernel takes E and k as constants; make offsets and the rows of ids "
        "static");
  for (Value buffer : {problem.ids, problem.offsets, problem.slots,
                       problem.source, problem.priority}) {
    auto type = buffer ? dyn_cast<MemRefType>(buffer.getType()) : MemRefType();
    if (type && !type.getLayout().isIdentity())
      return llvm::createStringError(llvm::formatv(
          "a kernel takes buffers in the default layout, not {0}", type));
  }
  // For few choices no more than the kernels around have, which it may become
  // one with.
  constexpr int64_t kFewChoices = 512, kFewWarps = 4, kManyWarps = 32;
  int64_t tokens = cast<ShapedType>(problem.ids.getType()).getDimSize(0);
  bool isFew =
      !ShapedType::isDynamic(tokens) && tokens * problem.topK <= kFewChoices;
  for (int64_t numWarps = isFew ? kFewWarps : kManyWarps; numWarps >= kFewWarps;
       numWarps /= 2) {
    if (getSharedBytes(numWarps, problem.numExperts) > kSharedBytes)
      continue;
    problem.numWarps = numWarps;
    return problem;
  }
  return llvm::createStringError(llvm::formatv(
      "counts of {0} experts do not fit into {1} bytes of shared memory; at "
      "most {2} do",
      problem.numExperts, kSharedBytes, (kSharedBytes / 4 - 1) / 6));
}

llvm::Expected<PlanProblem> mlir::moe::analyzePlan(PlanOp op) {
  auto ids = cast<ShapedType>(op.getIds().getType());
  return finish({op.getIds(), op.getOffsetsInit(), op.getSlotsInit(),
                 op.getSourceInit(), op.getCapacity(), op.getPriority(),
                 op.getTokensPerGroup(), op.getOrder(), op.getNumExperts(),
                 ids.getDimSize(1), /*numWarps=*/0});
}

llvm::Expected<PlanProblem> mlir::moe::analyzePlan(RouteOp op) {
  return finish({op.getIdsInit(), op.getOffsetsInit(), op.getSlotsInit(),
                 op.getSourceInit(), op.getCapacity(), /*priority=*/Value(),
                 op.getTokensPerGroup(), op.getOrder(), op.getNumExperts(),
                 op.getTopK(), /*numWarps=*/0});
}
