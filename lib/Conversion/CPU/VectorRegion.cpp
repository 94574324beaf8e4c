//===- VectorRegion.cpp - Scalar regions on vectors -----------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "VectorRegion.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;

static bool isScalar(Type type) { return type.isIntOrIndexOrFloat(); }

static bool mapsOverVectors(Operation &op) {
  if (op.hasTrait<OpTrait::ConstantLike>())
    return true;
  return OpTrait::hasElementwiseMappableTraits(&op) &&
         op.getNumRegions() == 0 &&
         llvm::all_of(op.getOperandTypes(), isScalar) &&
         llvm::all_of(op.getResultTypes(), isScalar);
}

Operation *mlir::moe::findScalarOnlyOp(Region &region) {
  for (Operation &op : region.front().without_terminator())
    if (!mapsOverVectors(op))
      return &op;
  return nullptr;
}

namespace {
class VectorInliner {
public:
  VectorInliner(OpBuilder &b, Location loc, int64_t lanes)
      : b(b), loc(loc), lanes(lanes) {}

  SmallVector<Value> inlineRegion(Region &region, ValueRange args,
                                  VectorRewrite rewrite) {
    mapping.map(region.getArguments(), args);
    for (Operation &op : region.front().without_terminator()) {
      SmallVector<Value> operands =
          llvm::map_to_vector(op.getOperands(), [&](Value operand) {
            return mapping.lookupOrDefault(operand);
          });
      if (Value other = rewrite ? rewrite(op, operands) : Value())
        mapping.map(op.getResult(0), other);
      else if (llvm::none_of(operands, isVector))
        b.clone(op, mapping);
      else
        mapping.map(op.getResults(), buildOnVectors(op, operands));
    }
    return llvm::map_to_vector(
        region.front().getTerminator()->getOperands(), [&](Value yielded) {
          return broadcast(mapping.lookupOrDefault(yielded));
        });
  }

private:
  OpBuilder &b;
  Location loc;
  int64_t lanes;
  IRMapping mapping;

  static bool isVector(Value value) { return isa<VectorType>(value.getType()); }

  VectorType vectorOf(Type type) { return VectorType::get({lanes}, type); }

  Value broadcast(Value value) {
    if (isVector(value))
      return value;
    return vector::BroadcastOp::create(b, loc, vectorOf(value.getType()),
                                       value);
  }

  ValueRange buildOnVectors(Operation &op, ValueRange operands) {
    auto vectors = llvm::map_to_vector(
        operands, [&](Value operand) { return broadcast(operand); });
    auto types = llvm::map_to_vector(
        op.getResultTypes(), [&](Type type) -> Type { return vectorOf(type); });
    OperationState state(loc, op.getName(), vectors, types,
                         llvm::to_vector(op.getDiscardableAttrs()));
    state.propertiesAttr = op.getPropertiesAsAttribute();
    return b.create(state)->getResults();
  }
};
} // namespace

SmallVector<Value> mlir::moe::inlineOnVectors(OpBuilder &builder, Location loc,
                                              Region &region, ValueRange args,
                                              int64_t lanes,
                                              VectorRewrite rewrite) {
  return VectorInliner(builder, loc, lanes).inlineRegion(region, args, rewrite);
}
