//===- TileSearch.cpp - Which tile a block computes -----------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TileSearch.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// Row tiles whose weights are read together: neighbouring blocks work on this
/// many row tiles of one column tile, so that both stay in the second cache.
static constexpr int64_t kRowTilesTogether = 16;

TileSearch::TileSearch(KernelBuilder &b, Value offsets, Value numExperts,
                       Value lane, int64_t tileRows, int64_t tileColumns,
                       int64_t numColumns)
    : b(b), offsets(offsets), tileRows(tileRows), tileColumns(tileColumns),
      numColumnTiles(llvm::divideCeil(numColumns, tileColumns)) {
  expertsPerLane = b.ceilDiv(numExperts, kWarpSize);
  Value first = b.min(b.mul(lane, expertsPerLane), numExperts);
  Value last = b.min(b.add(first, expertsPerLane), numExperts);
  Value own = b.loop(first, last, b.i32(1), b.i32(0),
                     [&](Value expert, ValueRange sum) -> SmallVector<Value> {
                       Value rowTiles = loadExpert(expert).numRowTiles;
                       return {b.add(sum[0], rowTiles)};
                     })[0];
  own = b.mul(own, numColumnTiles);
  inclusive = b.sumOfLanesUpTo(own, lane);
  exclusive = b.sub(inclusive, own);
  numTiles = b.shuffle(NVVM::ShflKind::idx, inclusive, b.i32(kWarpSize - 1));
}

TileSearch::Expert TileSearch::loadExpert(Value expert) {
  Type i32 = b.getI32Type();
  Value place = b.element(offsets, i32, b.widen(expert));
  Value begin = b.loadConstant(i32, place);
  Value end = b.loadConstant(i32, b.advance(place, 4));
  return {begin, end, b.ceilDiv(b.sub(end, begin), tileRows)};
}

Tile TileSearch::find(Value number) {
  // The first lane that reaches beyond the tile has it.
  Value reaches = b.ballot(b.less(number, inclusive));
  Value lane = math::CountTrailingZerosOp::create(b, reaches);
  Value local = b.sub(number, b.shuffle(NVVM::ShflKind::idx, exclusive, lane));
  auto found = b.loopWhile(
      {b.mul(lane, expertsPerLane), local},
      [&](ValueRange at) {
        Value tiles = b.mul(loadExpert(at[0]).numRowTiles, numColumnTiles);
        return arith::CmpIOp::create(b, arith::CmpIPredicate::sge, at[1], tiles)
            .getResult();
      },
      [&](ValueRange at) -> SmallVector<Value> {
        Value tiles = b.mul(loadExpert(at[0]).numRowTiles, numColumnTiles);
        return {b.add(at[0], 1), b.sub(at[1], tiles)};
      });
  Expert expert = loadExpert(found[0]);
  Value group = b.div(found[1], kRowTilesTogether * numColumnTiles);
  Value firstInGroup = b.mul(group, kRowTilesTogether);
  Value height =
      b.min(b.sub(expert.numRowTiles, firstInGroup), kRowTilesTogether);
  Value inGroup =
      b.sub(found[1], b.mul(group, kRowTilesTogether * numColumnTiles));
  Value rowTile = b.add(firstInGroup, b.rem(inGroup, height));
  Value columnTile = b.div(inGroup, height);
  return {found[0], b.add(expert.begin, b.mul(rowTile, tileRows)), expert.end,
          b.mul(columnTile, tileColumns)};
}
