//===- FuseCombine.cpp - Grouped matmuls that add into tokens ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FusionRemarks.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSECOMBINE
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether every slot is a row that `offsets` give to an expert.
static bool areOfOnePlan(Value offsets, Value slots) {
  Operation *op = offsets.getDefiningOp();
  if (isa_and_nonnull<PlanOp, DispatchOp>(op))
    return offsets == op->getResult(0) && slots == op->getResult(1);
  if (isa_and_nonnull<RouteOp>(op))
    return offsets == op->getResult(2) && slots == op->getResult(3);
  return false;
}

LogicalResult mlir::moe::rewriteCombineIntoGroupedMatmul(RewriterBase &rewriter,
                                                         CombineOp combine) {
  auto matmul = combine.getRows().getDefiningOp<GroupedMatmulOp>();
  if (!matmul || matmul.isCombining() || !combine.hasPureTensorSemantics())
    return rewriter.notifyMatchFailure(combine,
                                       "its rows are of no grouped matmul");
  auto decline = [&](StringRef reason, StringRef advice) {
    remarkMissed(kCombineRemark, combine, combine.getLoc(), "rows are stored",
                 reason, advice);
    return rewriter.notifyMatchFailure(combine, reason);
  };
  if (matmul.getNumResults() != 1)
    return decline("the grouped matmul stores other rows as well", "");
  if (!combine.getRows().hasOneUse())
    return decline("something else reads the rows", "");
  if (!areOfOnePlan(matmul.getOffsets(), combine.getSlots()))
    return decline("the slots are not from the dispatch or plan that the "
                   "offsets are from",
                   "use the offsets and slots of one op");
  rewriter.setInsertionPoint(combine);
  auto fused = GroupedMatmulOp::create(
      rewriter, matmul.getLoc(), combine->getResultTypes(), matmul.getOffsets(),
      matmul.getSource(), matmul.getFactors(), matmul.getExtras(),
      combine.getSlots(), combine.getWeights(), combine.getBase(),
      combine.getInits(), matmul.getTopKAttr(), matmul.getFactorMapsAttr(),
      matmul.getTermSizesAttr(), matmul.getLhsSizesAttr(),
      matmul.getProductSizesAttr(), matmul.getExtraMapsAttr(),
      matmul.getFactorRegions().size());
  fused->setDiscardableAttrs(matmul->getDiscardableAttrDictionary());
  for (auto [from, to] : llvm::zip(matmul->getRegions(), fused->getRegions()))
    rewriter.inlineRegionBefore(from, to, to.begin());
  rewriter.replaceOp(combine, fused);
  rewriter.eraseOp(matmul);
  return success();
}

namespace {
struct FuseCombinePass : moe::impl::MoEFuseCombineBase<FuseCombinePass> {
  void runOnOperation() override {
    SmallVector<CombineOp> combines;
    getOperation()->walk(
        [&](CombineOp combine) { combines.push_back(combine); });
    IRRewriter rewriter(&getContext());
    for (CombineOp combine : combines) {
      FailureOr<CombineOp> based = rewriteAddAsBase(rewriter, combine);
      if (succeeded(rewriteCombineIntoGroupedMatmul(
              rewriter, succeeded(based) ? *based : combine)))
        ++numFused;
    }
  }
};
} // namespace
