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

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
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

//===----------------------------------------------------------------------===//
// Sums of lanes
//===----------------------------------------------------------------------===//

namespace {
/// A vector of `numGroups` groups of lanes, whose sums are wanted.
struct LaneGroups {
  Value vector;
  int64_t numGroups, groupSize;
};
} // namespace

static Value shuffle(OpBuilder &b, Location loc, Value x, Value y,
                     ArrayRef<int64_t> lanes) {
  return vector::ShuffleOp::create(b, loc, x, y, lanes);
}

/// Adds the upper half of each group to its lower half; the groups of `x` come
/// before those of `y`.
static LaneGroups foldHalves(OpBuilder &b, Location loc, LaneGroups x,
                             std::optional<LaneGroups> y) {
  int64_t half = x.groupSize / 2, size = x.numGroups * x.groupSize;
  SmallVector<int64_t> lower, upper;
  for (int64_t start = 0; start < (y ? 2 * size : size); start += x.groupSize)
    for (int64_t lane = 0; lane < half; ++lane) {
      lower.push_back(start + lane);
      upper.push_back(start + half + lane);
    }
  Value other = y ? y->vector : x.vector;
  Value sum =
      arith::AddFOp::create(b, loc, shuffle(b, loc, x.vector, other, lower),
                            shuffle(b, loc, x.vector, other, upper));
  return {sum, y ? 2 * x.numGroups : x.numGroups, half};
}

/// The sum of the lanes of each vector, in order, filled up to a power of two.
static Value addLanes(OpBuilder &b, Location loc, ArrayRef<Value> vectors) {
  int64_t lanes = cast<VectorType>(vectors[0].getType()).getNumElements();
  auto count = static_cast<int64_t>(llvm::PowerOf2Ceil(vectors.size()));
  SmallVector<LaneGroups> level;
  for (Value vector : vectors)
    level.push_back({vector, 1, lanes});
  // Lanes run out first where a tile has more columns than a vector has lanes.
  while (level.size() > 1 || level[0].groupSize > 1) {
    if (level.size() == 1) {
      level = {foldHalves(b, loc, level[0], std::nullopt)};
      continue;
    }
    SmallVector<LaneGroups> next;
    for (size_t i = 0; i < level.size(); i += 2) {
      if (i + 1 < level.size()) {
        next.push_back(foldHalves(b, loc, level[i], level[i + 1]));
        continue;
      }
      LaneGroups zero = level[i];
      zero.vector = arith::ConstantOp::create(
          b, loc, b.getZeroAttr(zero.vector.getType()));
      next.push_back(foldHalves(b, loc, level[i], zero));
    }
    level = std::move(next);
  }
  assert(level[0].numGroups == count && "a lane for each vector");
  (void)count;
  return level[0].vector;
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
    SmallVector<Value> rows;
    for (size_t i = 0; i < tile.rows.size(); ++i)
      rows.push_back(addLanes(
          b, loc, ArrayRef(sums).slice(i * tile.numColumns, tile.numColumns)));
    return rows;
  }

private:
  OpBuilder &b;
  Location loc;
  const TileSums &tile;
  VectorType accType;

  Value tailMask() {
    auto type = VectorType::get({tile.config.getStep()}, b.getI1Type());
    return vector::ConstantMaskOp::create(b, loc, type, {tile.tail});
  }

  /// sums[i, j] += lhs[i, k…] · weight[j, k…]; the lanes that `mask` (if any)
  /// leaves out count as 0.
  Carried addStep(Value k, ValueRange sums, Value mask) {
    if (!mask)
      prefetchNextTile(k);
    MatmulIndices dims = tile.dims;
    dims[GroupedMatmulOp::kSum] = k;
    SmallVector<Value> lhs;
    for (auto [row, token] : llvm::zip(tile.rows, tile.tokens)) {
      dims[GroupedMatmulOp::kRow] = row;
      dims[GroupedMatmulOp::kToken] = token;
      lhs.push_back(load(tile.term.lhs, tile.term.lhsMap, dims, mask));
    }
    Carried next(sums);
    OpFoldResult first = tile.dims[GroupedMatmulOp::kColumn];
    AffineExpr column = b.getAffineDimExpr(0);
    for (int64_t j = 0; j < tile.numColumns; ++j) {
      dims[GroupedMatmulOp::kColumn] =
          affine::makeComposedFoldedAffineApply(b, loc, column + j, {first});
      Value weight =
          load(tile.term.getWeight(), tile.term.getWeightMap(), dims, mask);
      for (auto [i, row] : llvm::enumerate(lhs)) {
        Value &sum = next[i * tile.numColumns + j];
        sum = multiplyAdd(row, weight, sum);
      }
    }
    return next;
  }

  /// The weights of the next tile on their way into the second cache: the rows
  /// of this one are few when weights come from memory, and then what a tile
  /// computes must hide what the next one waits for.
  void prefetchNextTile(Value k) {
    MatmulIndices dims = tile.dims;
    dims[GroupedMatmulOp::kSum] = k;
    OpFoldResult first = tile.dims[GroupedMatmulOp::kColumn];
    AffineExpr column = b.getAffineDimExpr(0);
    for (int64_t j = 0; j < tile.numColumns; ++j) {
      dims[GroupedMatmulOp::kColumn] = affine::makeComposedFoldedAffineApply(
          b, loc, column + tile.numColumns + j, {first});
      memref::PrefetchOp::create(
          b, loc, tile.term.getWeight(),
          buildIndices(b, loc, tile.term.getWeightMap(), dims),
          /*isWrite=*/false, /*localityHint=*/2, /*isDataCache=*/true);
    }
  }

  /// A step of elements along k; in f32 unless the dot product takes bf16.
  Value load(Value buffer, AffineMap map, const MatmulIndices &dims,
             Value mask) {
    Type elementType = cast<MemRefType>(buffer.getType()).getElementType();
    auto type = VectorType::get({tile.config.getStep()}, elementType);
    SmallVector<Value> at = buildIndices(b, loc, map, dims);
    Value loaded;
    if (mask) {
      Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
      loaded =
          vector::MaskedLoadOp::create(b, loc, type, buffer, at, mask, zero);
    } else {
      loaded = vector::LoadOp::create(b, loc, type, buffer, at);
    }
    if (tile.config.getBf16Dot() || elementType.isF32())
      return loaded;
    return arith::ExtFOp::create(b, loc, accType, loaded);
  }

  Value multiplyAdd(Value lhs, Value weight, Value sum) {
    if (tile.config.getBf16Dot())
      return x86vector::DotBF16Op::create(b, loc, accType, sum, lhs, weight);
    return vector::FMAOp::create(b, loc, lhs, weight, sum);
  }
};
} // namespace

SmallVector<Value> mlir::moe::buildTileSums(OpBuilder &builder, Location loc,
                                            const TileSums &tile) {
  return TileBuilder(builder, loc, tile).build();
}
