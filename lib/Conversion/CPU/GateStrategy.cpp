//===- GateStrategy.cpp - How gates and plans run on a CPU ----------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GateStrategy.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

std::string mlir::moe::findGateObstacle(GateOp op) {
  // The code of a token grows with both.
  constexpr int64_t kMostExperts = 512, kMostChoices = 64;
  int64_t numExperts = op.getNumExperts(), topK = op.getTopK();
  if (ShapedType::isDynamic(numExperts) || ShapedType::isDynamic(topK))
    return "E or k is not a constant; make the rows of logits and ids static";
  if (numExperts < 1 || topK < 1)
    return "there is nothing to choose from";
  if (numExperts > kMostExperts)
    return llvm::formatv("registers rank at most {0} experts, not {1}",
                         kMostExperts, numExperts);
  if (topK > kMostChoices)
    return llvm::formatv("registers hold at most {0} weights, not {1}",
                         kMostChoices, topK);
  return "";
}

std::string mlir::moe::findPlanObstacle(PlanOp op) {
  if (op.getCapacity())
    return "with a capacity, what a token keeps depends on all tokens before "
           "it";
  return "";
}
