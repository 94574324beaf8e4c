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

SmallVector<Value> mlir::moe::inlineOnVectors(OpBuilder &builder, Location loc,
                                              Region &region, ValueRange args,
                                              int64_t lanes) {
  IRMapping mapping;
  mapping.map(region.getArguments(), args);
  auto vectorOf = [&](Type type) { return VectorType::get({lanes}, type); };
  auto lookUp = [&](Value scalar) -> Value {
    if (Value vector = mapping.lookupOrNull(scalar))
      return vector;
    Value vector = vector::BroadcastOp::create(
        builder, loc, vectorOf(scalar.getType()), scalar);
    mapping.map(scalar, vector);
    return vector;
  };
  for (Operation &op : region.front().without_terminator()) {
    if (op.hasTrait<OpTrait::ConstantLike>()) {
      Operation *constant = builder.clone(op);
      for (auto [scalar, copy] :
           llvm::zip(op.getResults(), constant->getResults()))
        mapping.map(scalar, vector::BroadcastOp::create(
                                builder, loc, vectorOf(copy.getType()), copy)
                                .getResult());
      continue;
    }
    SmallVector<Value> operands = llvm::map_to_vector(op.getOperands(), lookUp);
    SmallVector<Type> types = llvm::map_to_vector(
        op.getResultTypes(), [&](Type type) -> Type { return vectorOf(type); });
    OperationState state(loc, op.getName(), operands, types,
                         llvm::to_vector(op.getDiscardableAttrs()));
    state.propertiesAttr = op.getPropertiesAsAttribute();
    mapping.map(op.getResults(), builder.create(state)->getResults());
  }
  return llvm::map_to_vector(region.front().getTerminator()->getOperands(),
                             lookUp);
}
