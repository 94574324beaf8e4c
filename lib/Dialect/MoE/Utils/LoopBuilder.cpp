//===- LoopBuilder.cpp - Structured loops in a few words -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

Carried mlir::moe::buildFor(
    OpBuilder &builder, Location loc, Value lower, Value upper,
    ValueRange inits,
    function_ref<Carried(OpBuilder &, Location, Value, ValueRange)> body,
    Value step) {
  if (!step)
    step = buildIndex(builder, loc, 1);
  auto loop = scf::ForOp::create(
      builder, loc, lower, upper, step, inits,
      [&](OpBuilder &b, Location l, Value iv, ValueRange carried) {
        scf::YieldOp::create(b, l, body(b, l, iv, carried));
      });
  return Carried(loop.getResults());
}

void mlir::moe::buildLoop(OpBuilder &builder, Location loc, Value lower,
                          Value upper, Value step,
                          function_ref<void(OpBuilder &, Value)> body) {
  buildFor(
      builder, loc, lower, upper, ValueRange(),
      [&](OpBuilder &b, Location, Value iv, ValueRange) -> Carried {
        body(b, iv);
        return {};
      },
      step);
}

Carried
mlir::moe::buildIf(OpBuilder &builder, Location loc, Value condition,
                   function_ref<Carried(OpBuilder &, Location)> thenBody,
                   function_ref<Carried(OpBuilder &, Location)> elseBody) {
  auto thenBuilder = [&](OpBuilder &b, Location l) {
    scf::YieldOp::create(b, l, thenBody(b, l));
  };
  if (!elseBody)
    return Carried(
        scf::IfOp::create(builder, loc, condition, thenBuilder).getResults());
  auto ifOp = scf::IfOp::create(builder, loc, condition, thenBuilder,
                                [&](OpBuilder &b, Location l) {
                                  scf::YieldOp::create(b, l, elseBody(b, l));
                                });
  return Carried(ifOp.getResults());
}

Value mlir::moe::buildIndex(OpBuilder &builder, Location loc, int64_t value) {
  return arith::ConstantIndexOp::create(builder, loc, value);
}

Value mlir::moe::buildI32(OpBuilder &builder, Location loc, int32_t value) {
  return arith::ConstantIntOp::create(builder, loc, value, /*width=*/32);
}

Value mlir::moe::buildFloat(OpBuilder &builder, Location loc, Type like,
                            double value) {
  auto scalar = builder.getFloatAttr(getElementTypeOrSelf(like), value);
  if (auto shaped = dyn_cast<ShapedType>(like))
    return arith::ConstantOp::create(builder, loc,
                                     DenseElementsAttr::get(shaped, scalar));
  return arith::ConstantOp::create(builder, loc, scalar);
}

Value mlir::moe::buildExtensionToF32(OpBuilder &builder, Location loc,
                                     Value value) {
  Type f32 = builder.getF32Type();
  if (auto shaped = dyn_cast<ShapedType>(value.getType()))
    f32 = shaped.clone(f32);
  if (value.getType() == f32)
    return value;
  return arith::ExtFOp::create(builder, loc, f32, value);
}

Value mlir::moe::buildElementRead(OpBuilder &builder, Location loc,
                                  Value values, ValueRange at) {
  if (isa<TensorType>(values.getType()))
    return tensor::ExtractOp::create(builder, loc, values, at);
  return memref::LoadOp::create(builder, loc, values, at);
}

Value mlir::moe::buildRead(OpBuilder &builder, Location loc, Value values,
                           AffineMap map, ValueRange dims) {
  SmallVector<OpFoldResult> operands = getAsOpFoldResult(dims);
  SmallVector<Value> at;
  for (unsigned i = 0; i < map.getNumResults(); ++i)
    at.push_back(getValueOrCreateConstantIndexOp(
        builder, loc,
        affine::makeComposedFoldedAffineApply(builder, loc, map.getSubMap({i}),
                                              operands)));
  return buildElementRead(builder, loc, values, at);
}

Carried mlir::moe::inlineRegion(OpBuilder &builder, Region &region,
                                ValueRange arguments) {
  IRMapping mapping;
  mapping.map(region.getArguments(), arguments);
  for (Operation &inner : region.front().without_terminator())
    builder.clone(inner, mapping);
  Carried values;
  for (Value value : region.front().getTerminator()->getOperands())
    values.push_back(mapping.lookupOrDefault(value));
  return values;
}

Value ElementBuilder::extract(OpBuilder &b, Value tensor, ValueRange at) const {
  return tensor::ExtractOp::create(b, loc, tensor, at);
}

Value ElementBuilder::insert(OpBuilder &b, Value value, Value tensor,
                             ValueRange at) const {
  return tensor::InsertOp::create(b, loc, value, tensor, at);
}

Value ElementBuilder::emptyRow(OpBuilder &b, Type type, Value size) const {
  return tensor::EmptyOp::create(
      b, loc, ArrayRef<OpFoldResult>{getAsOpFoldResult(size)}, type);
}

Value ElementBuilder::compare(OpBuilder &b, arith::CmpIPredicate predicate,
                              Value lhs, Value rhs) const {
  return arith::CmpIOp::create(b, loc, predicate, lhs, rhs);
}

Value ElementBuilder::compare(OpBuilder &b, arith::CmpFPredicate predicate,
                              Value lhs, Value rhs) const {
  return arith::CmpFOp::create(b, loc, predicate, lhs, rhs);
}

Value ElementBuilder::both(OpBuilder &b, Value lhs, Value rhs) const {
  return arith::AndIOp::create(b, loc, lhs, rhs);
}

Value ElementBuilder::either(OpBuilder &b, Value lhs, Value rhs) const {
  return arith::OrIOp::create(b, loc, lhs, rhs);
}

Value ElementBuilder::select(OpBuilder &b, Value condition, Value lhs,
                             Value rhs) const {
  return arith::SelectOp::create(b, loc, condition, lhs, rhs);
}

Value ElementBuilder::toIndex(OpBuilder &b, Value id) const {
  return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
}

Value ElementBuilder::toI32(OpBuilder &b, Value index) const {
  return arith::IndexCastOp::create(b, loc, b.getI32Type(), index);
}
