//===- ReplayIds.cpp - Ids of another run as arguments ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FusionRemarks.h"
#include "RoutingLayers.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Statistics.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEREPLAYIDS
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

std::string mlir::moe::getReplayedName(unsigned layer) {
  return "replay_ids" + std::to_string(layer);
}

/// Appends an argument of the type of `ids` to `func`; null if it cannot have
/// one.
static Value appendArgument(func::FuncOp func, Value ids, StringRef name) {
  Builder builder(func.getContext());
  unsigned position = func.getNumArguments();
  NamedAttribute attr =
      builder.getNamedAttr(kNameAttr, builder.getStringAttr(name));
  if (failed(func.insertArgument(position, ids.getType(),
                                 builder.getDictionaryAttr(attr),
                                 ids.getLoc())))
    return {};
  return func.getArgument(position);
}

/// Replaces `ids` by `given`, and the weights of their gate by those of
/// `given`.
static void replaceIds(const RoutingLayer &layer, Value ids, Value given) {
  auto gate = ids.getDefiningOp<GateOp>();
  if (!gate) {
    remarkMissed(kReplayRemark, layer.op, layer.op->getLoc(),
                 "the weights are not those of the replayed ids",
                 "the ids are not those of one gate",
                 "compute weights and ids by one moe.gate");
    ids.replaceAllUsesWith(given);
    return;
  }
  OpBuilder b(gate);
  Value weights = buildGateWeights(b, gate, given);
  gate->getResult(0).replaceAllUsesWith(weights);
  ids.replaceAllUsesWith(given);
  gate->erase();
}

SmallVector<unsigned> mlir::moe::replayIds(func::FuncOp func) {
  SmallVector<unsigned> replayed;
  llvm::SmallDenseSet<Value> done;
  for (auto [i, layer] : llvm::enumerate(findLayers(func, kReplayRemark))) {
    Value ids = layer.op->getOperand(0);
    if (done.contains(ids))
      continue;
    if (isa<BlockArgument>(ids)) {
      remarkMissed(kReplayRemark, layer.op, layer.op->getLoc(),
                   "ids are not replayed", "they are an argument already",
                   "pass the recorded ids for it");
      continue;
    }
    Value given = appendArgument(func, ids, getReplayedName(i));
    if (!given)
      continue;
    replaceIds(layer, ids, given);
    done.insert(given);
    replayed.push_back(i);
  }
  return replayed;
}

namespace {
struct ReplayIdsPass final : moe::impl::MoEReplayIdsBase<ReplayIdsPass> {
  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  void runOnOperation() override {
    auto functions = getOperation()->getRegion(0).getOps<func::FuncOp>();
    for (func::FuncOp func : functions)
      numReplayed += replayIds(func).size();
  }
};
} // namespace
