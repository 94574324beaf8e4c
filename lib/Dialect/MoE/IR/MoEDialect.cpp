//===- MoEDialect.cpp - The moe dialect -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/IR/MoE.h"

#include "MoEBytecode.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Interfaces/RuntimeVerifiableOpInterface.h"
#include "mlir/Interfaces/TilingInterface.h"
#include "mlir/Transforms/InliningUtils.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

#include "moe/Dialect/MoE/IR/MoEDialect.cpp.inc"
#include "moe/Dialect/MoE/IR/MoEEnums.cpp.inc"

#include "moe/Dialect/MoE/IR/MoEInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "moe/Dialect/MoE/IR/MoEAttrs.cpp.inc"

namespace {
/// Functions that hold moe ops can be inlined, and so can calls in a body.
struct MoEInlinerInterface : DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;
  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final {
    return true;
  }
  bool isLegalToInline(Region *, Region *, bool, IRMapping &) const final {
    return true;
  }
};
} // namespace

void MoEDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "moe/Dialect/MoE/IR/MoEOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "moe/Dialect/MoE/IR/MoEAttrs.cpp.inc"
      >();
  addInterfaces<MoEInlinerInterface>();
  addBytecodeInterface(this);
  declarePromisedInterfaces<linalg::AggregatedOpInterface, GateOp, DispatchOp,
                            ExpertOp, CombineOp, PlanOp, GroupedMatmulOp,
                            RouteOp>();
  declarePromisedInterfaces<bufferization::BufferizableOpInterface, GateOp,
                            DispatchOp, ExpertOp, CombineOp, PlanOp,
                            GroupedMatmulOp, RouteOp>();
  declarePromisedInterfaces<RuntimeVerifiableOpInterface, GateOp, DispatchOp,
                            ExpertOp, CombineOp, PlanOp, GroupedMatmulOp,
                            RouteOp>();
  declarePromisedInterfaces<TilingInterface, GateOp, CombineOp,
                            GroupedMatmulOp>();
}

/// For messages.
static StringRef getUsableConfigs(Operation *op) {
  if (isa<GroupedMatmulOp>(op))
    return "#moe.cpu_matmul, #moe.gpu_matmul or #moe.gpu_wgmma";
  if (isa<GateOp, PlanOp>(op))
    return "#moe.cpu_routing<block_tokens = N>";
  return "it on moe.grouped_matmul, moe.gate and moe.plan";
}

/// argument_c3
static LogicalResult verifyText(Operation *op, const Twine &holder,
                                NamedAttribute attribute) {
  auto text = dyn_cast<StringAttr>(attribute.getValue());
  if (text && !text.empty())
    return success();
  return op->emitOpError(holder)
         << ": '" << attribute.getName().getValue()
         << "' must be a non-empty string, got " << attribute.getValue();
}

LogicalResult MoEDialect::verifyRegionArgAttribute(Operation *op, unsigned,
                                                   unsigned argIndex,
                                                   NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name != kParamAttr && name != kNameAttr) // argument_c1
    return op->emitOpError("argument ")
           << argIndex << " has the unknown attribute '" << name
           << "'; the moe dialect has '" << kParamAttr << "' and '" << kNameAttr
           << "'";
  return verifyText(op, "argument " + Twine(argIndex), attribute);
}

LogicalResult MoEDialect::verifyRegionResultAttribute(
    Operation *op, unsigned, unsigned resultIndex, NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name != kNameAttr) // argument_c2
    return op->emitOpError("result ")
           << resultIndex << " has the unknown attribute '" << name
           << "'; for results the moe dialect has '" << kNameAttr << "'";
  return verifyText(op, "result " + Twine(resultIndex), attribute);
}

LogicalResult MoEDialect::verifyOperationAttribute(Operation *op,
                                                   NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name != LoweringConfigInterface::kName)
    return success();
  auto config = dyn_cast<LoweringConfigInterface>(attribute.getValue());
  if (!config) // lowering_config_c1
    return op->emitOpError() << "'" << name << "' is " << attribute.getValue()
                             << "; use " << getUsableConfigs(op);
  if (!config.configures(op)) // lowering_config_c2
    return op->emitOpError() << "'" << name << "' is " << attribute.getValue()
                             << ", which does not say how such an op runs; use "
                             << getUsableConfigs(op);
  return success();
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

LogicalResult GroupsAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 int64_t count, int64_t keep, GroupScore,
                                 GroupMask) {
  if (count < 1) // groups_c1
    return emitError() << "groups: count must be at least 1, got " << count;
  if (keep < 1 || keep > count) // groups_c2
    return emitError() << "groups: keep must be between 1 and count = " << count
                       << ", got " << keep;
  return success();
}

LogicalResult
RenormalizeAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                        FloatAttr eps, EpsMode) {
  if (!eps)
    return success();
  if (!eps.getType().isF32()) // renormalize_c1
    return emitError() << "renormalize: eps must be an f32, got "
                       << eps.getType() << "; write 'eps = 1.0e-20 : f32'";
  if (!eps.getValue().isFinite() || eps.getValue().isNegative())
    return emitError()
           << "renormalize: eps must be finite and not negative, got " << eps;
  return success();
}

APFloat RenormalizeAttr::getEpsilon() const {
  return getEps() ? getEps().getValue() : APFloat(0.0f);
}
