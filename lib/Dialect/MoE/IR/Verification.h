//===- Verification.h - What the ops of the dialect share -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two sizes agree unless they are two different numbers: a dynamic size agrees
// with all.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_IR_VERIFICATION_H
#define LIB_DIALECT_MOE_IR_VERIFICATION_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

inline ArrayRef<int64_t> shapeOf(Value value) {
  return cast<ShapedType>(value.getType()).getShape();
}

inline int64_t dimOf(Value value, unsigned dim) { return shapeOf(value)[dim]; }

inline Type elementType(Value value) {
  return cast<ShapedType>(value.getType()).getElementType();
}

bool agree(int64_t a, int64_t b);
bool agree(ArrayRef<int64_t> a, ArrayRef<int64_t> b);

/// Writes a shape as in a type: 8x?x16.
std::string str(ArrayRef<int64_t> shape);

/// gate_c6: 1 ≤ k ≤ E, as far as both are known.
LogicalResult verifyTopK(Operation *op, int64_t topK, int64_t numExperts);

/// gate_c7 to gate_c11: the attributes of a gate, for E experts and k choices.
LogicalResult verifySelection(Operation *op, Score score, SoftmaxScope scope,
                              GroupsAttr groups, FloatAttr scale,
                              int64_t numExperts, int64_t topK);

LogicalResult verifyAllTensorsOrAllMemrefs(DestinationStyleOpInterface op);

/// Reads of the operands that are memrefs, writes of the destinations.
void addDestinationEffects(
    DestinationStyleOpInterface op,
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects);

/// `name` is what the message calls the region. Assertions are no effects:
/// runtime verification puts them into bodies.
LogicalResult verifyNoSideEffects(Operation *op, Region &region,
                                  StringRef name);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_IR_VERIFICATION_H
