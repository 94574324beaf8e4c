//===- RoutingLayers.cpp - Where a function routes --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RoutingLayers.h"

#include "FusionRemarks.h"
#include "mlir/IR/SymbolTable.h"

using namespace mlir;
using namespace mlir::moe;

int64_t RoutingLayer::getNumExperts() const {
  int64_t size = cast<ShapedType>(offsets.getType()).getDimSize(0);
  return ShapedType::isDynamic(size) ? size : size - 1;
}

/// What a category leaves out, in words.
static StringRef getMissing(StringRef category) {
  return category == kReplayRemark ? "ids are not replayed" : "no statistics";
}

static void remarkMissing(StringRef category, Operation *op, StringRef reason,
                          StringRef advice) {
  remarkMissed(category, op, op->getLoc(), getMissing(category), reason,
               advice);
}

static std::optional<RoutingLayer> readLayer(Operation *op) {
  if (auto dispatch = dyn_cast<DispatchOp>(op))
    if (dispatch.hasPureTensorSemantics())
      return RoutingLayer{op, dispatch.getIds(), op->getResult(0),
                          op->getResult(1)};
  if (auto plan = dyn_cast<PlanOp>(op))
    if (plan.hasPureTensorSemantics())
      return RoutingLayer{op, plan.getIds(), op->getResult(0),
                          op->getResult(1)};
  return std::nullopt;
}

/// Whether results or arguments may be added to `func`. Remarks are at `first`,
/// what routes there first.
static bool isChangeable(func::FuncOp func, Operation *first,
                         StringRef category) {
  if (!func.getBody().hasOneBlock()) {
    remarkMissing(category, first,
                  std::to_string(func.getBody().getBlocks().size()) +
                      " blocks in the function",
                  "write its control flow with scf");
    return false;
  }
  Operation *symbolTable =
      SymbolTable::getNearestSymbolTable(func->getParentOp());
  if (!symbolTable || SymbolTable::symbolKnownUseEmpty(func, symbolTable))
    return true;
  remarkMissing(category, first, "the function is called by others",
                "inline it first");
  return false;
}

SmallVector<RoutingLayer> mlir::moe::findLayers(func::FuncOp func,
                                                StringRef category) {
  SmallVector<Operation *> routing;
  GateOp gate;
  func.walk([&](Operation *op) {
    if (isa<DispatchOp, PlanOp, RouteOp>(op))
      routing.push_back(op);
    else if (auto found = dyn_cast<GateOp>(op); found && !gate)
      gate = found;
  });
  SmallVector<RoutingLayer> layers;
  if (routing.empty()) {
    if (gate)
      remarkMissing(category, gate, "nothing is dispatched to experts", "");
    return layers;
  }
  if (!isChangeable(func, routing.front(), category))
    return layers;
  for (Operation *op : routing) {
    std::optional<RoutingLayer> layer = readLayer(op);
    if (op->getParentOp() != func)
      remarkMissing(category, op, "it is inside a loop or branch",
                    "make it a function of its own");
    else if (isa<RouteOp>(op))
      remarkMissing(category, op, "the routing is fused already",
                    "run this pass before moe-fuse");
    else if (!layer)
      remarkMissing(category, op, "it is on memrefs",
                    "run this pass before bufferization");
    else
      layers.push_back(*layer);
  }
  return layers;
}

CombineOp mlir::moe::findCombine(const RoutingLayer &layer) {
  SmallVector<CombineOp> combines;
  bool isFused = false;
  for (Operation *user : layer.slots.getUsers()) {
    if (auto combine = dyn_cast<CombineOp>(user))
      combines.push_back(combine);
    isFused |= isa<GroupedMatmulOp>(user);
  }
  if (combines.size() == 1 &&
      combines.front()->getParentOp() == layer.op->getParentOp())
    return combines.front();
  std::string reason = std::to_string(combines.size()) +
                       " combines at the top level read the slots";
  if (combines.size() == 1)
    reason = "the combine is inside a loop or branch";
  else if (isFused)
    reason = "a grouped matmul adds the rows into the tokens";
  remarkMissed(kInstrumentRemark, layer.op, layer.op->getLoc(),
               "no contribution norms", reason,
               isFused ? "run this pass before moe-fuse" : "");
  return {};
}
