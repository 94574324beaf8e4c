//===- DecomposeCombine.cpp - moe.combine in upstream dialects -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// One token at a time, with a row of f32 sums. The rows of a token are found in
// ascending order of their slots by looking for the next larger one, k times.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/SliceBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class CombineBuilder {
public:
  CombineBuilder(OpBuilder &builder, CombineOp op)
      : op(op), loc(op.getLoc()), f32(builder.getF32Type()) {
    zero = buildIndex(builder, loc, 0);
    numTokens = tensor::DimOp::create(builder, loc, op.getSlots(), 0);
    topK = tensor::DimOp::create(builder, loc, op.getSlots(), 1);
    width = tensor::getMixedSize(builder, loc, op.getRows(), 1);
    Value numRows = tensor::DimOp::create(builder, loc, op.getRows(), 0);
    numRowsI32 =
        arith::IndexCastOp::create(builder, loc, builder.getI32Type(), numRows);
  }

  SmallVector<Value> build(OpBuilder &builder) {
    return buildFor(
        builder, loc, zero, numTokens, op.getInits(),
        [&](OpBuilder &b, Location, Value token, ValueRange out) -> Carried {
          Value sum = sumRows(b, token);
          return {storeToken(b, token, sum, out[0])};
        });
  }

private:
  CombineOp op;
  Location loc;
  Type f32;
  Value zero, numTokens, topK, numRowsI32;
  OpFoldResult width;

  /// Row `index` of a matrix H wide, as a tensor of rank 1.
  Value sliceRow(OpBuilder &b, Value matrix, Value index) {
    auto type = cast<RankedTensorType>(matrix.getType());
    return buildExtractSlice(b, loc, type.clone(type.getShape().take_back()),
                             matrix, rowPlace(b, matrix, index));
  }

  SlicePlace rowPlace(OpBuilder &b, Value matrix, Value index) {
    SlicePlace place(b, loc, matrix);
    place.offsets[0] = index;
    place.sizes[0] = b.getIndexAttr(1);
    return place;
  }

  /// linalg.generic over H: out[h] = compute(inputs[h]…, out[h]).
  Value elementwise(OpBuilder &b, ValueRange inputs, Value out,
                    function_ref<Value(OpBuilder &, ValueRange)> compute) {
    AffineMap identity = b.getMultiDimIdentityMap(1);
    SmallVector<AffineMap> maps(inputs.size() + 1, identity);
    SmallVector<utils::IteratorType> iterators = {
        utils::IteratorType::parallel};
    return linalg::GenericOp::create(
               b, loc, out.getType(), inputs, out, maps, iterators,
               [&](OpBuilder &b, Location, ValueRange args) {
                 linalg::YieldOp::create(b, loc, compute(b, args));
               })
        .getResult(0);
  }

  /// A choice of a token, by the order of summation; choice is −1 if none.
  struct Ordered {
    Value slot, choice; // i32
  };

  /// The smallest (slot, choice) that comes after `last`.
  Ordered buildNextSlot(OpBuilder &b, Value token, Ordered last) {
    auto compare = [&](OpBuilder &b, arith::CmpIPredicate predicate, Value lhs,
                       Value rhs) -> Value {
      return arith::CmpIOp::create(b, loc, predicate, lhs, rhs);
    };
    Value none = buildI32(b, loc, -1);
    auto next = buildFor(
        b, loc, zero, topK, {numRowsI32, none},
        [&](OpBuilder &b, Location l, Value j, ValueRange best) -> Carried {
          Value slot = tensor::ExtractOp::create(b, l, op.getSlots(),
                                                 ValueRange{token, j});
          Value choice = arith::IndexCastOp::create(b, l, b.getI32Type(), j);
          Value above = compare(b, arith::CmpIPredicate::sgt, slot, last.slot);
          Value equal = compare(b, arith::CmpIPredicate::eq, slot, last.slot);
          Value later =
              compare(b, arith::CmpIPredicate::sgt, choice, last.choice);
          Value isLeft = arith::OrIOp::create(
              b, l, above, arith::AndIOp::create(b, l, equal, later));
          // best starts at M, so a slot outside [0, M) is never taken.
          Value smaller = compare(b, arith::CmpIPredicate::slt, slot, best[0]);
          Value take = arith::AndIOp::create(b, l, isLeft, smaller);
          return {arith::SelectOp::create(b, l, take, slot, best[0]),
                  arith::SelectOp::create(b, l, take, choice, best[1])};
        });
    return {next[0], next[1]};
  }

  /// Σ_j weight·row of a token in f32, as a tensor of rank 1.
  Value sumRows(OpBuilder &b, Value token) {
    Value empty =
        tensor::EmptyOp::create(b, loc, ArrayRef<OpFoldResult>{width}, f32);
    Value sum =
        linalg::FillOp::create(b, loc, buildFloat(b, loc, f32, 0.0), empty)
            .getResult(0);
    Value none = buildI32(b, loc, -1);
    // Slots are non-negative where there is a row: (−1, k) is before them all.
    Value before = arith::IndexCastOp::create(b, loc, b.getI32Type(), topK);
    return buildFor(
        b, loc, zero, topK, {sum, none, before},
        [&](OpBuilder &b, Location l, Value, ValueRange state) -> Carried {
          Ordered best = buildNextSlot(b, token, {state[1], state[2]});
          Value found = arith::CmpIOp::create(b, l, arith::CmpIPredicate::ne,
                                              best.choice, none);
          Value next = buildIf(
              b, l, found,
              [&](OpBuilder &b, Location) -> Carried {
                return {addRow(b, token, best, state[0])};
              },
              [&](OpBuilder &, Location) -> Carried { return {state[0]}; })[0];
          return {next, best.slot, best.choice};
        })[0];
  }

  Value addRow(OpBuilder &b, Value token, Ordered at, Value sum) {
    auto toIndex = [&](Value id) -> Value {
      return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
    };
    Value weight = buildExtensionToF32(
        b, loc,
        tensor::ExtractOp::create(b, loc, op.getWeights(),
                                  ValueRange{token, toIndex(at.choice)}));
    Value row = sliceRow(b, op.getRows(), toIndex(at.slot));
    return elementwise(
        b, row, sum, [&](OpBuilder &b, ValueRange args) -> Value {
          return math::FmaOp::create(
              b, loc, weight, buildExtensionToF32(b, loc, args[0]), args[1]);
        });
  }

  /// out[token] = sum [+ base[token]], rounded once.
  Value storeToken(OpBuilder &b, Value token, Value sum, Value out) {
    SmallVector<Value> inputs = {sum};
    if (op.getBase())
      inputs.push_back(sliceRow(b, op.getBase(), token));
    Type elementType = getElementTypeOrSelf(out);
    Value row = elementwise(
        b, inputs, sliceRow(b, out, token),
        [&](OpBuilder &b, ValueRange args) -> Value {
          Value value = args[0];
          if (op.getBase())
            value = arith::AddFOp::create(b, loc, value,
                                          buildExtensionToF32(b, loc, args[1]));
          if (elementType == f32)
            return value;
          return arith::TruncFOp::create(b, loc, elementType, value);
        });
    return buildInsertSlice(b, loc, row, out, rowPlace(b, out, token));
  }
};

} // namespace

SmallVector<Value> mlir::moe::decomposeCombine(OpBuilder &builder,
                                               CombineOp op) {
  return CombineBuilder(builder, op).build(builder);
}
