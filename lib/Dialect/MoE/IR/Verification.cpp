//===- Verification.cpp - What the ops of the dialect share ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Verification.h"

#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

bool mlir::moe::agree(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}

bool mlir::moe::agree(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  return a.size() == b.size() && llvm::all_of(llvm::zip(a, b), [](auto pair) {
           return agree(std::get<0>(pair), std::get<1>(pair));
         });
}

std::string mlir::moe::str(ArrayRef<int64_t> shape) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleave(
      shape, os,
      [&](int64_t size) {
        if (ShapedType::isDynamic(size))
          os << '?';
        else
          os << size;
      },
      "x");
  return text.empty() ? "scalar" : text;
}

LogicalResult
mlir::moe::verifyAllTensorsOrAllMemrefs(DestinationStyleOpInterface op) {
  if (op.hasPureTensorSemantics() || op.hasPureBufferSemantics())
    return success();
  return op->emitOpError("mixes tensors and memrefs; bufferize all operands or "
                         "none");
}

void mlir::moe::addDestinationEffects(
    DestinationStyleOpInterface op,
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType>(operand.get().getType()))
      continue;
    if (op.isDpsInit(&operand))
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  }
}

/// True if `op` itself, apart from what is nested in it, may have an effect.
static bool hasOwnSideEffects(Operation *op) {
  if (isa<cf::AssertOp>(op))
    return false;
  if (auto effects = dyn_cast<MemoryEffectOpInterface>(op))
    return !effects.hasNoEffect();
  return !op->hasTrait<OpTrait::HasRecursiveMemoryEffects>();
}

LogicalResult mlir::moe::verifyNoSideEffects(Operation *op, Region &region,
                                             StringRef name) {
  Operation *offender = nullptr;
  region.walk([&](Operation *inner) {
    if (!hasOwnSideEffects(inner))
      return WalkResult::advance();
    offender = inner;
    return WalkResult::interrupt();
  });
  if (!offender)
    return success();
  InFlightDiagnostic diag = op->emitOpError("the ")
                            << name << " must have no side effects, but holds '"
                            << offender->getName()
                            << "'; compute on values inside and store outside";
  diag.attachNote(offender->getLoc()) << "the operation in question";
  return diag;
}
