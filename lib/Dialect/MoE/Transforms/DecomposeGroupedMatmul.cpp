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

using namespace mlir;
using namespace mlir::moe;

namespace {

class GroupedMatmulBuilder {
public:
  GroupedMatmulBuilder(OpBuilder &builder, GroupedMatmulOp op)
      : op(op), loc(op.getLoc()), f32(builder.getF32Type()),
        products(op.getProducts()) {
    zero = buildIndex(builder, loc, 0);
    one = buildIndex(builder, loc, 1);
    indices.assign(GroupedMatmulOp::kNumDims, zero);
  }

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
  Type f32;
  SmallVector<GroupedMatmulOp::Product> products;
  Value zero, one;
  /// Values of e, m, t, j, n and k at the insertion point.
  SmallVector<Value> indices;

  /// M, from an operand that has a row for each.
  OpFoldResult numRows(OpBuilder &b) {
    if (op.getSource())
      return tensor::getMixedSize(b, loc, op.getSource(), 0);
    // Without a source, no lhs is gathered.
    return tensor::getMixedSize(b, loc, products[0][0].lhs, 0);
  }

  SmallVector<Value> buildRows(OpBuilder &b, ValueRange inits) {
    Value numOffsets = tensor::DimOp::create(b, loc, op.getOffsets(), 0);
    Value numExperts = arith::SubIOp::create(b, loc, numOffsets, one);
    return buildFor(b, loc, zero, numExperts, inits,
                    [&](OpBuilder &b, Location, Value expert, ValueRange outs) {
                      indices[GroupedMatmulOp::kExpert] = expert;
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

  Value readIndex(OpBuilder &b, Value tensor, Value at) {
    Value id = tensor::ExtractOp::create(b, loc, tensor, at);
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
  }

  Value readOffset(OpBuilder &b, Value expert) {
    return readIndex(b, op.getOffsets(), expert);
  }

  Carried buildRow(OpBuilder &b, Value row, ValueRange outs) {
    indices[GroupedMatmulOp::kRow] = row;
    if (op.getSource() && op.getTopK()) {
      Value source = readIndex(b, op.getSource(), row);
      Value topK = buildIndex(b, loc, *op.getTopK());
      indices[GroupedMatmulOp::kToken] =
          arith::DivUIOp::create(b, loc, source, topK);
      indices[GroupedMatmulOp::kChoice] =
          arith::RemUIOp::create(b, loc, source, topK);
    }
    Value numColumns = tensor::DimOp::create(b, loc, outs[0], 1);
    return buildFor(b, loc, zero, numColumns, outs,
                    [&](OpBuilder &b, Location, Value column, ValueRange outs) {
                      indices[GroupedMatmulOp::kColumn] = column;
                      return buildElement(b, outs);
                    });
  }

  /// out[m, n] = epilogue(products, extras)
  Carried buildElement(OpBuilder &b, ValueRange outs) {
    SmallVector<Value> args;
    for (const GroupedMatmulOp::Product &product : products)
      args.push_back(buildProduct(b, product));
    auto maps = op.getExtraMaps().getAsValueRange<AffineMapAttr>();
    for (auto [extra, map] : llvm::zip(op.getExtras(), maps))
      args.push_back(read(b, extra, map));
    SmallVector<Value> scalars = inlineRegion(b, op.getEpilogue(), args);
    Carried next;
    for (auto [scalar, out] : llvm::zip(scalars, outs))
      next.push_back(tensor::InsertOp::create(
          b, loc, scalar, out,
          ValueRange{indices[GroupedMatmulOp::kRow],
                     indices[GroupedMatmulOp::kColumn]}));
    return next;
  }

  Value buildProduct(OpBuilder &b, const GroupedMatmulOp::Product &product) {
    Value sum = buildFloat(b, loc, f32, 0.0);
    for (const GroupedMatmulOp::Term &term : product) {
      Value length = tensor::DimOp::create(b, loc, term.lhs, 1);
      sum = buildFor(
          b, loc, zero, length, sum,
          [&](OpBuilder &b, Location, Value k, ValueRange sum) -> Carried {
            indices[GroupedMatmulOp::kSum] = k;
            Value lhs = buildExtensionToF32(b, loc, readLhs(b, term));
            Value weight = buildExtensionToF32(b, loc, readWeight(b, term));
            Value scaled = arith::MulFOp::create(b, loc, lhs, weight);
            return {arith::AddFOp::create(b, loc, sum[0], scaled)};
          })[0];
    }
    return sum;
  }

  Value readLhs(OpBuilder &b, const GroupedMatmulOp::Term &term) {
    SmallVector<Value> args = {read(b, term.lhs, term.lhsMap)};
    if (!term.prologue)
      return args[0];
    for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
      args.push_back(read(b, extra, map));
    return inlineRegion(b, *term.prologue, args)[0];
  }

  Value readWeight(OpBuilder &b, const GroupedMatmulOp::Term &term) {
    if (!term.decode)
      return read(b, term.getWeight(), term.getWeightMap());
    SmallVector<Value> args = {indices[GroupedMatmulOp::kColumn],
                               indices[GroupedMatmulOp::kSum]};
    for (auto [stored, map] : llvm::zip(term.stored, term.storedMaps))
      args.push_back(read(b, stored, map));
    return inlineRegion(b, *term.decode, args)[0];
  }

  /// The element of `tensor` that `map` names at the current indices.
  Value read(OpBuilder &b, Value tensor, AffineMap map) {
    return buildRead(b, loc, tensor, map, indices);
  }
};

} // namespace

SmallVector<Value> mlir::moe::decomposeGroupedMatmul(OpBuilder &builder,
                                                     GroupedMatmulOp op) {
  return GroupedMatmulBuilder(builder, op).build(builder);
}
