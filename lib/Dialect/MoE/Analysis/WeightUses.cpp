//===- WeightUses.cpp - Which tensors are weights ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "WeightUses.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/CallInterfaces.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;

static bool isFloatCast(Operation *op) {
  return isa_and_nonnull<arith::ExtFOp, arith::TruncFOp>(op);
}

static bool isView(Operation *op) {
  return isa_and_nonnull<tensor::CastOp, tensor::ExpandShapeOp,
                         tensor::CollapseShapeOp, tensor::ExtractSliceOp,
                         linalg::TransposeOp>(op);
}

Value WeightUses::getStored(Value tensor) {
  while (isFloatCast(tensor.getDefiningOp()))
    tensor = tensor.getDefiningOp()->getOperand(0);
  return tensor;
}

Value WeightUses::getRoot(Value tensor) {
  while (Operation *op = tensor.getDefiningOp()) {
    if (!isFloatCast(op) && !isView(op))
      break;
    tensor = op->getOperand(0);
  }
  return tensor;
}

/// Whether `map` reads something of an expert, and nothing of a row.
static bool isPerExpert(AffineMap map) {
  return map.isFunctionOfDim(GroupedMatmulOp::kExpert) &&
         !map.isFunctionOfDim(GroupedMatmulOp::kRow) &&
         !map.isFunctionOfDim(GroupedMatmulOp::kToken) &&
         !map.isFunctionOfDim(GroupedMatmulOp::kChoice);
}

/// Whether an op takes the operand for a weight.
static bool isWeightUse(OpOperand &use) {
  Operation *op = use.getOwner();
  if (auto expert = dyn_cast<ExpertOp>(op))
    return llvm::is_contained(expert.getParams(), use.get());
  if (auto route = dyn_cast<RouteOp>(op))
    return use.get() == route.getRouter() || use.get() == route.getBias();
  auto matmul = dyn_cast<GroupedMatmulOp>(op);
  if (!matmul)
    return false;
  auto factors =
      llvm::zip(matmul.getFactors(),
                matmul.getFactorMaps().getAsValueRange<AffineMapAttr>());
  auto extras =
      llvm::zip(matmul.getExtras(),
                matmul.getExtraMaps().getAsValueRange<AffineMapAttr>());
  auto isRead = [&](auto operand) {
    return std::get<0>(operand) == use.get() &&
           isPerExpert(std::get<1>(operand));
  };
  return llvm::any_of(factors, isRead) || llvm::any_of(extras, isRead);
}

/// The uses of an argument, behind views and casts too.
static bool hasWeightUse(Value value) {
  SmallVector<Value> values = {value};
  while (!values.empty())
    for (OpOperand &use : values.pop_back_val().getUses()) {
      if (isWeightUse(use))
        return true;
      if (isView(use.getOwner()) || isFloatCast(use.getOwner()))
        values.push_back(use.getOwner()->getResult(0));
    }
  return false;
}

WeightUses::WeightUses(FunctionOpInterface function) {
  auto isTensor = [](Value value) {
    return isa<RankedTensorType>(value.getType());
  };
  SmallVector<BlockArgument> tensors;
  llvm::copy_if(function.getArguments(), std::back_inserter(tensors), isTensor);
  for (BlockArgument argument : tensors)
    if (function.getArgAttr(argument.getArgNumber(), kParamAttr) ||
        hasWeightUse(argument))
      arguments.insert(argument);
  auto isDynamic = [](Value value) {
    return !cast<RankedTensorType>(value.getType()).hasStaticShape();
  };
  auto isActivation = [&](Value value) {
    return isDynamic(value) && !arguments.contains(value);
  };
  if (!llvm::any_of(tensors, isActivation))
    return;
  for (BlockArgument argument : tensors)
    if (!isDynamic(argument))
      arguments.insert(argument);
}

bool WeightUses::isWeight(Value tensor) const {
  Value root = getRoot(tensor);
  auto argument = dyn_cast<BlockArgument>(root);
  if (!argument)
    return matchPattern(root, m_Constant());
  auto expert = dyn_cast<ExpertOp>(argument.getOwner()->getParentOp());
  if (!expert)
    return arguments.contains(root);
  unsigned firstParam = 1 + expert.getRows().size();
  return argument.getArgNumber() >= firstParam &&
         isWeight(expert.getParams()[argument.getArgNumber() - firstParam]);
}

bool WeightUses::isCounted(Operation *op) const {
  auto isTensor = [](Value value) {
    return isa<RankedTensorType>(value.getType());
  };
  bool isOurs = isa<DispatchOp, CombineOp, GateOp, PlanOp, RouteOp,
                    GroupedMatmulOp, ExpertOp>(op);
  if (isOurs)
    return true;
  bool isControl = op->getNumRegions() != 0 && !isa<linalg::LinalgOp>(op);
  if (isControl || isa<CallOpInterface, linalg::FillOp, tensor::EmptyOp>(op) ||
      (isView(op) && !isa<linalg::TransposeOp>(op)) ||
      matchPattern(op, m_Constant()) ||
      !llvm::any_of(op->getResults(), isTensor))
    return false;
  return !(isFloatCast(op) || isView(op)) || !isWeight(op->getResult(0));
}

unsigned WeightUses::countHidden(Operation *op) {
  if (isa<CallOpInterface>(op))
    return 1;
  unsigned count = 0;
  if (isa<linalg::LinalgOp, ExpertOp, GroupedMatmulOp, RouteOp>(op))
    return count;
  op->walk([&](Operation *inner) {
    auto contraction = dyn_cast<linalg::LinalgOp>(inner);
    count += (contraction && linalg::isaContractionOpInterface(contraction)) ||
             isa<ExpertOp, GroupedMatmulOp, RouteOp>(inner);
  });
  return count;
}
