//===- DecomposeExpert.cpp - moe.expert in upstream dialects -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A loop over the experts around a copy of the body. An expert without rows
// costs two loads: its slices are taken inside the branch.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/SliceBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// A slice that differs from the whole tensor in its first dimension only.
static SlicePlace outerSlice(OpBuilder &builder, Location loc, Value tensor,
                             OpFoldResult offset, OpFoldResult size) {
  SlicePlace place(builder, loc, tensor);
  place.offsets[0] = offset;
  place.sizes[0] = size;
  return place;
}

static Value castTo(OpBuilder &builder, Location loc, Value value, Type type) {
  if (value.getType() == type)
    return value;
  return tensor::CastOp::create(builder, loc, type, value);
}

/// Rows [begin, begin + count) of `rows`, with the type of a body argument.
static Value sliceRows(OpBuilder &builder, Location loc, Value rows,
                       Value begin, Value count, Type argType) {
  auto type = cast<RankedTensorType>(rows.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = ShapedType::kDynamic;
  Value taken = buildExtractSlice(builder, loc, type.clone(shape), rows,
                                  outerSlice(builder, loc, rows, begin, count));
  return castTo(builder, loc, taken, argType);
}

/// Slice `expert` of a per-expert value, with the type of a body argument.
static Value sliceExpert(OpBuilder &builder, Location loc, Value param,
                         Value expert, Type argType) {
  auto type = cast<RankedTensorType>(param.getType());
  Value taken = buildExtractSlice(
      builder, loc, type.clone(type.getShape().drop_front()), param,
      outerSlice(builder, loc, param, expert, builder.getIndexAttr(1)));
  return castTo(builder, loc, taken, argType);
}

/// Runs a copy of the body on the rows of `expert` and stores what it yields.
static Carried runBody(OpBuilder &builder, ExpertOp op, Value expert,
                       Value begin, Value count, ValueRange results) {
  Location loc = op.getLoc();
  IRMapping mapping;
  mapping.map(op.getExpertArg(), expert);
  for (auto [arg, rows] : llvm::zip(op.getRowArgs(), op.getRows()))
    mapping.map(arg,
                sliceRows(builder, loc, rows, begin, count, arg.getType()));
  for (auto [arg, param] : llvm::zip(op.getParamArgs(), op.getParams()))
    mapping.map(arg, sliceExpert(builder, loc, param, expert, arg.getType()));
  for (Operation &inner : op.getBody().front().without_terminator())
    builder.clone(inner, mapping);

  Carried stored;
  for (auto [i, yielded] : llvm::enumerate(op.getYieldOp().getValues())) {
    bool isRow = op.isRowInit(i);
    SlicePlace place =
        outerSlice(builder, loc, results[i], isRow ? begin : expert,
                   isRow ? OpFoldResult(count) : builder.getIndexAttr(1));
    // The slice has the result's own static sizes, whatever the body knows.
    auto type = cast<RankedTensorType>(results[i].getType());
    SmallVector<int64_t> shape(type.getShape());
    if (isRow)
      shape[0] = ShapedType::kDynamic;
    else
      shape.erase(shape.begin());
    Value value = castTo(builder, loc, mapping.lookupOrDefault(yielded),
                         type.clone(shape));
    stored.push_back(buildInsertSlice(builder, loc, value, results[i], place));
  }
  return stored;
}

SmallVector<Value> mlir::moe::decomposeExpert(OpBuilder &builder, ExpertOp op) {
  Location loc = op.getLoc();
  Value zero = buildIndex(builder, loc, 0), one = buildIndex(builder, loc, 1);
  Value numOffsets = tensor::DimOp::create(builder, loc, op.getOffsets(), 0);
  Value numExperts = arith::SubIOp::create(builder, loc, numOffsets, one);
  auto loadOffset = [&](OpBuilder &b, Value index) -> Value {
    return arith::IndexCastOp::create(
        b, loc, b.getIndexType(),
        tensor::ExtractOp::create(b, loc, op.getOffsets(), index));
  };
  return buildFor(
      builder, loc, zero, numExperts, op.getInits(),
      [&](OpBuilder &b, Location, Value expert, ValueRange results) {
        Value begin = loadOffset(b, expert);
        Value end = loadOffset(b, arith::AddIOp::create(b, loc, expert, one));
        Value hasRows = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                              begin, end);
        return buildIf(
            b, loc, hasRows,
            [&](OpBuilder &b, Location) {
              Value count = arith::SubIOp::create(b, loc, end, begin);
              return runBody(b, op, expert, begin, count, results);
            },
            [&](OpBuilder &, Location) { return Carried(results); });
      });
}
