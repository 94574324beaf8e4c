//===- BufferizableOpInterfaceImpl.cpp - Bufferization of moe ops ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"
#include "mlir/IR/DialectRegistry.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace mlir::moe;

/// Replaces `op` by itself on buffers; the results are the destinations.
static LogicalResult
bufferizeOnDestinations(DestinationStyleOpInterface op, RewriterBase &rewriter,
                        const BufferizationOptions &options,
                        BufferizationState &state) {
  if (!op.hasPureTensorSemantics())
    return success();
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    if (!isa<TensorType>(operand.getType())) {
      operands.push_back(operand);
      continue;
    }
    FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
    if (failed(buffer))
      return failure();
    operands.push_back(*buffer);
  }
  rewriter.setInsertionPoint(op);
  OperationState newState(op->getLoc(), op->getName(), operands,
                          /*types=*/TypeRange(), op->getAttrs());
  newState.propertiesAttr = op->getPropertiesAsAttribute();
  for (Region &region : op->getRegions())
    newState.addRegion()->takeBody(region);
  Operation *onBuffers = rewriter.create(newState);
  auto inits = cast<DestinationStyleOpInterface>(onBuffers).getDpsInits();
  replaceOpWithBufferizedValues(rewriter, op, SmallVector<Value>(inits));
  return success();
}

namespace {

/// moe.gate, moe.combine, moe.plan and moe.route write every element of their
/// destinations.
template <typename OpTy>
struct OverwritingModel
    : DstBufferizableOpInterfaceExternalModel<OverwritingModel<OpTy>, OpTy> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    return !cast<OpTy>(op).isDpsInit(&operand);
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    return bufferizeOnDestinations(cast<DestinationStyleOpInterface>(op),
                                   rewriter, options, state);
  }
};

/// moe.dispatch overwrites offsets and slots; rows that nobody owns keep the
/// destination's value, so the other destinations are read as well.
struct DispatchModel
    : DstBufferizableOpInterfaceExternalModel<DispatchModel, DispatchOp> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    auto dispatch = cast<DispatchOp>(op);
    if (!dispatch.isDpsInit(&operand))
      return true;
    unsigned firstInit = dispatch.getInits().getBeginOperandIndex();
    return operand.getOperandNumber() >= firstInit + 2;
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    return bufferizeOnDestinations(cast<DestinationStyleOpInterface>(op),
                                   rewriter, options, state);
  }
};

/// moe.grouped_matmul overwrites tokens; rows that nobody owns keep the
/// destination's value.
struct GroupedMatmulModel
    : DstBufferizableOpInterfaceExternalModel<GroupedMatmulModel,
                                              GroupedMatmulOp> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    auto matmul = cast<GroupedMatmulOp>(op);
    return !matmul.isDpsInit(&operand) || !matmul.isCombining();
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    return bufferizeOnDestinations(cast<DestinationStyleOpInterface>(op),
                                   rewriter, options, state);
  }
};

/// moe.expert is a tensor op: its region slices and stores, which only its
/// decomposition or kernel-level ops say how to do in place.
struct ExpertModel
    : DstBufferizableOpInterfaceExternalModel<ExpertModel, ExpertOp> {
  LogicalResult bufferize(Operation *op, RewriterBase &,
                          const BufferizationOptions &,
                          BufferizationState &) const {
    return op->emitOpError("works on tensors only; run moe-decompose before "
                           "bufferization");
  }
};

} // namespace

void mlir::moe::registerBufferizableOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoEDialect *) {
    GateOp::attachInterface<OverwritingModel<GateOp>>(*context);
    CombineOp::attachInterface<OverwritingModel<CombineOp>>(*context);
    PlanOp::attachInterface<OverwritingModel<PlanOp>>(*context);
    RouteOp::attachInterface<OverwritingModel<RouteOp>>(*context);
    DispatchOp::attachInterface<DispatchModel>(*context);
    GroupedMatmulOp::attachInterface<GroupedMatmulModel>(*context);
    ExpertOp::attachInterface<ExpertModel>(*context);
  });
}
