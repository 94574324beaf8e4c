//===- DecomposePack.cpp - linalg.pack as an elementwise copy -------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "moe/Pipelines/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_DECOMPOSEPACK
#include "moe/Pipelines/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

namespace {

/// Makes one op elementwise.
class PackDecomposer {
public:
  PackDecomposer(OpBuilder &b, linalg::PackOp op)
      : op(op), loc(op.getLoc()), tiles(op.getDimAndTileMapping()),
        order(op.getOuterDimsPerm()) {
    if (order.empty())
      llvm::append_range(order, llvm::seq<int64_t>(0, op.getSourceRank()));
    sizes = tensor::getMixedSizes(b, loc, op.getSource());
  }

  Value decompose(OpBuilder &b) {
    SmallVector<utils::IteratorType> iterators(op.getDestRank(),
                                               utils::IteratorType::parallel);
    return linalg::GenericOp::create(
               b, loc, op.getDestType(), ValueRange(), op.getDest(),
               b.getMultiDimIdentityMap(op.getDestRank()), iterators,
               [&](OpBuilder &b, Location, ValueRange) {
                 linalg::YieldOp::create(b, loc, buildElement(b));
               })
        .getResult(0);
  }

private:
  linalg::PackOp op;
  Location loc;
  DenseMap<int64_t, OpFoldResult> tiles;
  SmallVector<int64_t> order;
  SmallVector<OpFoldResult> sizes;

  /// Where an element is in dimension `dim` of the source.
  OpFoldResult buildIndex(OpBuilder &b, int64_t dim) {
    int64_t outer = llvm::find(order, dim) - order.begin();
    OpFoldResult index = linalg::IndexOp::create(b, loc, outer).getResult();
    if (!tiles.contains(dim))
      return index;
    int64_t inner =
        llvm::find(op.getInnerDimsPos(), dim) - op.getInnerDimsPos().begin();
    OpFoldResult place =
        linalg::IndexOp::create(b, loc, op.getSourceRank() + inner).getResult();
    AffineExpr i, tile, j;
    bindDims(b.getContext(), i, j);
    bindSymbols(b.getContext(), tile);
    return affine::makeComposedFoldedAffineApply(b, loc, i * tile + j,
                                                 {index, place, tiles[dim]});
  }

  /// Whether some elements of tiles along `dim` are padding.
  bool isPadded(int64_t dim) {
    auto it = tiles.find(dim);
    if (it == tiles.end())
      return false;
    std::optional<int64_t> size = getConstantIntValue(sizes[dim]),
                           tile = getConstantIntValue(it->second);
    return !size || !tile || *size % *tile != 0;
  }

  Value buildElement(OpBuilder &b) {
    SmallVector<Value> indices;
    Value isInside;
    for (int64_t dim : llvm::seq<int64_t>(0, op.getSourceRank())) {
      indices.push_back(
          getValueOrCreateConstantIndexOp(b, loc, buildIndex(b, dim)));
      if (!op.getPaddingValue() || !isPadded(dim))
        continue;
      Value size = getValueOrCreateConstantIndexOp(b, loc, sizes[dim]);
      Value isBelow = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                            indices.back(), size);
      isInside =
          isInside ? arith::AndIOp::create(b, loc, isInside, isBelow) : isBelow;
    }
    auto extract = [&](OpBuilder &b) -> Value {
      return tensor::ExtractOp::create(b, loc, op.getSource(), indices);
    };
    if (!isInside)
      return extract(b);
    auto yield = [&](OpBuilder &b, Value value) {
      scf::YieldOp::create(b, loc, value);
    };
    return scf::IfOp::create(
               b, loc, isInside,
               [&](OpBuilder &b, Location) { yield(b, extract(b)); },
               [&](OpBuilder &b, Location) { yield(b, op.getPaddingValue()); })
        .getResult(0);
  }
};

struct DecomposePack : moe::impl::DecomposePackBase<DecomposePack> {
  void runOnOperation() override {
    SmallVector<linalg::PackOp> ops;
    getOperation()->walk([&](linalg::PackOp op) { ops.push_back(op); });
    IRRewriter rewriter(&getContext());
    for (linalg::PackOp op : ops) {
      rewriter.setInsertionPoint(op);
      Value packed = PackDecomposer(rewriter, op).decompose(rewriter);
      rewriter.replaceOp(op, packed);
    }
  }
};

} // namespace
