//===- DecomposeGroupedMatmul.cpp - moe.grouped_matmul upstream -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// One element of the result at a time: what every index expression says, read
// by the letter. A combining op is the rows, then moe.combine.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/MatmulElement.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class GroupedMatmulBuilder {
public:
  GroupedMatmulBuilder(OpBuilder &builder, GroupedMatmulOp op)
      : op(op), loc(op.getLoc()), zero(buildIndex(builder, loc, 0)),
        one(buildIndex(builder, loc, 1)), element(builder, op) {}

  SmallVector<Value> build(OpBuilder &b) {
    if (!op.isCombining())
      return buildRows(b, op.getInits());
    Value empty = tensor::EmptyOp::create(
        b, loc, {numRows(b), tensor::getMixedSize(b, loc, op.getInits()[0], 1)},
        op.getEpilogueYield().getValues()[0].getType());
    Value rows = buildRows(b, empty)[0];
    auto combine =
        CombineOp::create(b, loc, op->getResultTypes(), rows, op.getSlots(),
                          op.getWeights(), op.getBase(), op.getInits());
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(combine);
    SmallVector<Value> values = decomposeCombine(b, combine);
    combine->erase();
    return values;
  }

private:
  GroupedMatmulOp op;
  Location loc;
  Value zero, one;
  MatmulElement element;

  /// M, from an operand that has a row for each.
  OpFoldResult numRows(OpBuilder &b) {
    if (op.getSource())
      return tensor::getMixedSize(b, loc, op.getSource(), 0);
    // Without a source, no lhs is gathered.
    return tensor::getMixedSize(b, loc, op.getProducts()[0][0].lhs, 0);
  }

  SmallVector<Value> buildRows(OpBuilder &b, ValueRange inits) {
    Value numOffsets = tensor::DimOp::create(b, loc, op.getOffsets(), 0);
    Value numExperts = arith::SubIOp::create(b, loc, numOffsets, one);
    return buildFor(b, loc, zero, numExperts, inits,
                    [&](OpBuilder &b, Location, Value expert, ValueRange outs) {
                      element.setIndex(GroupedMatmulOp::kExpert, expert);
                      Value next = arith::AddIOp::create(b, loc, expert, one);
                      // One by one: g++ evaluates arguments from the right.
                      Value begin = readOffset(b, expert);
                      Value end = readOffset(b, next);
                      return buildFor(b, loc, begin, end, outs,
                                      [&](OpBuilder &b, Location, Value row,
                                          ValueRange outs) {
                                        return buildRow(b, row, outs);
                                      });
                    });
  }

  Value readOffset(OpBuilder &b, Value expert) {
    return element.readId(b, op.getOffsets(), expert);
  }

  Carried buildRow(OpBuilder &b, Value row, ValueRange outs) {
    element.enterRow(b, row);
    Value numColumns = tensor::DimOp::create(b, loc, outs[0], 1);
    return buildFor(b, loc, zero, numColumns, outs,
                    [&](OpBuilder &b, Location, Value column, ValueRange outs) {
                      element.setIndex(GroupedMatmulOp::kColumn, column);
                      return buildElement(b, outs);
                    });
  }

  /// out[m, n] = epilogue(products, extras)
  Carried buildElement(OpBuilder &b, ValueRange outs) {
    Carried next;
    for (auto [scalar, out] : llvm::zip(element.build(b), outs))
      next.push_back(tensor::InsertOp::create(
          b, loc, scalar, out,
          ValueRange{element.getIndex(GroupedMatmulOp::kRow),
                     element.getIndex(GroupedMatmulOp::kColumn)}));
    return next;
  }
};

} // namespace

SmallVector<Value> mlir::moe::decomposeGroupedMatmul(OpBuilder &builder,
                                                     GroupedMatmulOp op) {
  return GroupedMatmulBuilder(builder, op).build(builder);
}
