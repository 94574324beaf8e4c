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

static constexpr StringLiteral kBlockTokens = "block_tokens";

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

DictionaryAttr mlir::moe::getTokenTasks(MLIRContext *context,
                                        int64_t blockTokens) {
  Builder b(context);
  return b.getDictionaryAttr(
      b.getNamedAttr(kBlockTokens, b.getI64IntegerAttr(blockTokens)));
}

FailureOr<int64_t> mlir::moe::checkTokenTasks(Operation *op,
                                              StringRef obstacle) {
  Attribute config = op->getAttr(CPUMatmulAttr::kName);
  auto dictionary = dyn_cast<DictionaryAttr>(config);
  auto tokens =
      dictionary ? dictionary.getAs<IntegerAttr>(kBlockTokens) : IntegerAttr();
  if (!tokens || !tokens.getType().isInteger(64) || tokens.getInt() < 1)
    return op->emitOpError("has a lowering_config ")
           << config << "; use {block_tokens = N : i64} with N of at least 1";
  if (!obstacle.empty())
    return op->emitOpError("has a lowering_config, but ") << obstacle;
  return tokens.getInt();
}
