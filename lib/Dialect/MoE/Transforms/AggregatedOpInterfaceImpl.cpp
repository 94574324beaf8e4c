//===- AggregatedOpInterfaceImpl.cpp - Decomposition of moe ops -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

using namespace mlir;
using namespace mlir::moe;

/// `op` with its memref operands read as tensors, of which only the inits may
/// be written to.
template <typename OpTy>
static OpTy cloneOnTensors(OpBuilder &builder, OpTy op) {
  SmallVector<Value> operands;
  for (OpOperand &operand : op->getOpOperands()) {
    auto type = dyn_cast<MemRefType>(operand.get().getType());
    if (!type) {
      operands.push_back(operand.get());
      continue;
    }
    operands.push_back(bufferization::ToTensorOp::create(
        builder, op.getLoc(),
        RankedTensorType::get(type.getShape(), type.getElementType()),
        operand.get(), /*restrict=*/true, /*writable=*/op.isDpsInit(&operand)));
  }
  size_t numInits = op.getInits().size();
  TypeRange resultTypes = TypeRange(ValueRange(operands).take_back(numInits));
  OperationState state(op.getLoc(), op->getName(), operands, resultTypes,
                       op->getAttrs());
  state.propertiesAttr = op->getPropertiesAsAttribute();
  for (Region &region : op->getRegions()) {
    IRMapping mapping;
    region.cloneInto(state.addRegion(), mapping);
  }
  return cast<OpTy>(builder.create(state));
}

template <typename OpTy>
static SmallVector<Value> decompose(OpBuilder &builder, OpTy op,
                                    SmallVector<Value> (*onTensors)(OpBuilder &,
                                                                    OpTy)) {
  if (op.hasPureTensorSemantics())
    return onTensors(builder, op);
  OpTy clone = cloneOnTensors(builder, op);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPoint(clone);
  SmallVector<Value> values = onTensors(builder, clone);
  builder.setInsertionPoint(clone);
  for (auto [value, init] : llvm::zip(values, op.getInits())) {
    auto store = bufferization::MaterializeInDestinationOp::create(
        builder, op.getLoc(), value, init);
    store.setWritable(true);
  }
  clone->erase();
  return {};
}

namespace {
template <typename OpTy, SmallVector<Value> (*onTensors)(OpBuilder &, OpTy)>
struct Decomposition : linalg::AggregatedOpInterface::ExternalModel<
                           Decomposition<OpTy, onTensors>, OpTy> {
  FailureOr<SmallVector<Value>> decomposeOperation(Operation *op,
                                                   OpBuilder &builder) const {
    return decompose(builder, cast<OpTy>(op), onTensors);
  }
};

struct DecomposePattern : RewritePattern {
  explicit DecomposePattern(MLIRContext *context)
      : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/1, context) {}
  LogicalResult matchAndRewrite(Operation *op,
                                PatternRewriter &rewriter) const override {
    return decomposeOp(rewriter, op);
  }
};
} // namespace

LogicalResult mlir::moe::decomposeOp(RewriterBase &rewriter, Operation *op) {
  if (!isa_and_nonnull<MoEDialect>(op->getDialect()))
    return rewriter.notifyMatchFailure(op, "is not an op of the moe dialect");
  auto aggregated = dyn_cast<linalg::AggregatedOpInterface>(op);
  if (!aggregated)
    return rewriter.notifyMatchFailure(op, "has no decomposition");
  rewriter.setInsertionPoint(op);
  FailureOr<SmallVector<Value>> values =
      aggregated.decomposeOperation(rewriter);
  if (failed(values))
    return rewriter.notifyMatchFailure(op, "its decomposition failed");
  rewriter.replaceOp(op, *values);
  return success();
}

void mlir::moe::populateDecomposePatterns(RewritePatternSet &patterns) {
  patterns.add<DecomposePattern>(patterns.getContext());
}

void mlir::moe::registerAggregatedOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoEDialect *) {
    GateOp::attachInterface<Decomposition<GateOp, decomposeGate>>(*context);
    DispatchOp::attachInterface<Decomposition<DispatchOp, decomposeDispatch>>(
        *context);
    ExpertOp::attachInterface<Decomposition<ExpertOp, decomposeExpert>>(
        *context);
    CombineOp::attachInterface<Decomposition<CombineOp, decomposeCombine>>(
        *context);
    PlanOp::attachInterface<Decomposition<PlanOp, decomposePlan>>(*context);
    GroupedMatmulOp::attachInterface<
        Decomposition<GroupedMatmulOp, decomposeGroupedMatmul>>(*context);
    RouteOp::attachInterface<Decomposition<RouteOp, decomposeRoute>>(*context);
  });
}
