//===- SelectProblem.cpp - Which gates a kernel can do ------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SelectKernel.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// Experts that lanes keep in registers, at most: 32 keys a lane.
static constexpr int64_t kMaxExperts = 1024;

bool SelectProblem::needsScores() const {
  if (score == Score::None)
    return false;
  return score != Score::Softmax || (scope == SoftmaxScope::All &&
                                     (selectOn == SelectOn::Scores || !hasMix));
}

static llvm::Error check(const SelectProblem &problem) {
  if (ShapedType::isDynamic(problem.numExperts) ||
      ShapedType::isDynamic(problem.topK))
    return llvm::createStringError("a kernel takes E and k as constants; make "
                                   "the rows of logits and ids static");
  if (problem.numExperts > kMaxExperts)
    return llvm::createStringError(
        llvm::formatv("a warp selects from at most {0} experts, not {1}",
                      kMaxExperts, problem.numExperts));
  if (problem.topK > kWarpSize)
    return llvm::createStringError(
        llvm::formatv("a warp selects at most {0} experts, a lane each, not "
                      "{1}",
                      kWarpSize, problem.topK));
  if (problem.groups && problem.groups.getCount() > kWarpSize)
    return llvm::createStringError(
        llvm::formatv("a warp ranks at most {0} groups, a lane each, not {1}",
                      kWarpSize, problem.groups.getCount()));
  for (Value buffer :
       {problem.bias, problem.idMap, problem.weights, problem.ids})
    if (buffer)
      if (llvm::Error error = checkLayout(buffer))
        return error;
  return llvm::Error::success();
}

/// What gates and routes have in common.
template <typename OpTy>
static SelectProblem describe(OpTy op) {
  SelectProblem problem;
  problem.topK = op.getTopK();
  problem.score = op.getScore();
  problem.selectOn = op.getSelectOn();
  problem.scope = op.getSoftmaxScope();
  problem.groups = op.getGroupsAttr();
  problem.renormalize = op.getRenormalizeAttr();
  problem.scale = op.getScale().convertToFloat();
  problem.bias = op.getBias();
  problem.weights = op.getWeightsInit();
  problem.ids = op.getIdsInit();
  return problem;
}

llvm::Expected<SelectProblem> mlir::moe::analyzeSelect(GateOp op) {
  SelectProblem problem = describe(op);
  problem.numExperts = op.getNumExperts();
  problem.hasMix = op.getMix() != nullptr;
  for (Value buffer : {op.getLogits(), op.getMix()})
    if (buffer)
      if (llvm::Error error = checkLayout(buffer))
        return error;
  if (llvm::Error error = check(problem))
    return error;
  return problem;
}

llvm::Expected<SelectProblem> mlir::moe::analyzeSelect(RouteOp op) {
  SelectProblem problem = describe(op);
  problem.numExperts = op.getNumRouterExperts();
  problem.hasMix = op.hasMix();
  problem.idMap = op.getIdMap();
  if (llvm::Error error = check(problem))
    return error;
  llvm::Expected<DeviceRegion> region =
      analyzeRegion(op.getWeights(), op.getWeightExtras(),
                    op.getWeightExtraMaps(), "weights");
  if (!region)
    return region.takeError();
  problem.region = *region;
  return problem;
}
