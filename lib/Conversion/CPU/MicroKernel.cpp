//===- MicroKernel.cpp - A tile of sums over k in registers ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Vectors run along k, for rows and for weights, as both are stored that way: a
// result has one vector of partial sums, and nothing needs packing. Adding the
// lanes of 24 vectors costs about 50 shuffles, next to 1536 products of vectors
// at K = 2048 in bf16.
//
//===----------------------------------------------------------------------===//

#include "MicroKernel.h"

#include "LaneSums.h"
#include "VectorAccess.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

SmallVector<Value> mlir::moe::buildIndices(OpBuilder &builder, Location loc,
                                           AffineMap map,
                                           const MatmulIndices &dims) {
  SmallVector<Value> indices;
  for (unsigned i = 0; i < map.getNumResults(); ++i)
    indices.push_back(getValueOrCreateConstantIndexOp(
        builder, loc,
        affine::makeComposedFoldedAffineApply(builder, loc, map.getSubMap({i}),
                                              dims)));
  return indices;
}

bool mlir::moe::isUnitStride(AffineMap map, GroupedMatmulOp::Dim dim) {
  for (AffineExpr index : map.getResults().drop_back())
    if (index.isFunctionOfDim(dim))
      return false;
  AffineExpr last = map.getResults().back();
  AffineExpr rest = simplifyAffineExpr(
      last - getAffineDimExpr(dim, map.getContext()), map.getNumDims(), 0);
  return last.isFunctionOfDim(dim) && !rest.isFunctionOfDim(dim);
}

//===----------------------------------------------------------------------===//
// The loop over k
//===----------------------------------------------------------------------===//

namespace {
class TileBuilder {
public:
  TileBuilder(OpBuilder &b, Location loc, const TileSums &tile)
      : b(b), loc(loc), tile(tile),
        accType(VectorType::get({tile.config.getLanes()}, b.getF32Type())) {}

  SmallVector<Value> build() {
    Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(accType));
    Carried sums(tile.rows.size() * tile.numColumns, zero);
    Value step = buildIndex(b, loc, tile.config.getStep());
    sums = buildFor(
        b, loc, tile.begin, tile.end, sums,
        [&](OpBuilder &body, Location, Value k, ValueRange carried) {
          return TileBuilder(body, loc, tile).addStep(k, carried, Value());
        },
        step);
    if (tile.tail)
      sums = addStep(tile.end, sums, tailMask());
    return buildLaneSums(b, loc, sums, tile.numColumns);
  }

private:
  OpBuilder &b;
  Location loc;
  const TileSums &tile;
  VectorType accType;

  Value tailMask() {
    return buildPrefixMask(b, loc, tile.config.getStep(), tile.tail);
  }

  /// sums[i, j] += lhs[i, k…] · weight[j, k…]; the lanes that `mask` (if any)
  /// leaves out count as 0.
  Carried addStep(Value k, ValueRange sums, Value mask) {
    if (!mask) {
      prefetchNextTile(k);
      prefetchLaterRow(k);
    }
    MatmulIndices dims = tile.dims;
    dims[GroupedMatmulOp::kSum] = k;
    SmallVector<Value> lhs;
    for (auto [row, token] : llvm::zip(tile.rows, tile.tokens)) {
      dims[GroupedMatmulOp::kRow] = row;
      dims[GroupedMatmulOp::kToken] = token;
      lhs.push_back(load(tile.lhs, dims, mask));
    }
    Carried next(sums);
    OpFoldResult first = tile.dims[GroupedMatmulOp::kColumn];
    AffineExpr column = b.getAffineDimExpr(0);
    for (int64_t j = 0; j < tile.numColumns; ++j) {
      dims[GroupedMatmulOp::kColumn] =
          affine::makeComposedFoldedAffineApply(b, loc, column + j, {first});
      Value weight = load(tile.weight, dims, mask);
      for (auto [i, row] : llvm::enumerate(lhs)) {
        Value &sum = next[i * tile.numColumns + j];
        sum = multiplyAdd(row, weight, sum);
      }
    }
    return next;
  }

  void prefetchNextTile(Value k) {
    const auto &next = tile.prefetch;
    MatmulIndices dims = tile.dims;
    dims[GroupedMatmulOp::kExpert] = next.expert;
    dims[GroupedMatmulOp::kSum] = k;
    if (next.numColumns && next.shift)
      dims[GroupedMatmulOp::kSum] =
          arith::AddIOp::create(b, loc, k, next.shift).getResult();
    AffineExpr column = b.getAffineDimExpr(0);
    for (int64_t j = 0; j < next.numColumns; ++j) {
      dims[GroupedMatmulOp::kColumn] = affine::makeComposedFoldedAffineApply(
          b, loc, column + j, {getAsOpFoldResult(next.column)});
      buildPrefetch(b, loc, next.weight.buffer,
                    buildIndices(b, loc, next.weight.map, dims),
                    /*toFirstCache=*/true);
    }
  }

  void prefetchLaterRow(Value k) {
    if (!tile.later.row)
      return;
    MatmulIndices dims = tile.dims;
    dims[GroupedMatmulOp::kRow] = tile.later.row;
    dims[GroupedMatmulOp::kSum] =
        tile.later.shift
            ? arith::AddIOp::create(b, loc, k, tile.later.shift).getResult()
            : k;
    buildPrefetch(b, loc, tile.lhs.buffer,
                  buildIndices(b, loc, tile.lhs.map, dims),
                  /*toFirstCache=*/false);
  }

  /// A step of elements along k; in f32 unless the dot product takes bf16.
  Value load(const TileSums::Operand &operand, const MatmulIndices &dims,
             Value mask) {
    Value buffer = operand.buffer;
    Value loaded =
        loadVector(b, loc, buffer, buildIndices(b, loc, operand.map, dims),
                   tile.config.getStep(), mask);
    Type elementType = getElementTypeOrSelf(buffer.getType());
    if (tile.config.usesBf16Dot() || elementType.isF32())
      return loaded;
    return arith::ExtFOp::create(b, loc, accType, loaded);
  }

  Value multiplyAdd(Value lhs, Value weight, Value sum) {
    if (tile.config.usesBf16Dot())
      return x86vector::DotBF16Op::create(b, loc, accType, sum, lhs, weight);
    return vector::FMAOp::create(b, loc, lhs, weight, sum);
  }
};
} // namespace

SmallVector<Value> mlir::moe::buildTileSums(OpBuilder &builder, Location loc,
                                            const TileSums &tile) {
  return TileBuilder(builder, loc, tile).build();
}
