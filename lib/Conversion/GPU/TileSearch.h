//===- TileSearch.h - Which tile a block computes ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The results of expert e are ⌈rows(e) / tileRows⌉ × numColumnTiles tiles. All
// tiles have one numbering, expert by expert; the offsets that tell how many
// there are never leave the device. Each lane of a warp counts the tiles of
// ⌈E / 32⌉ experts, a scan over the lanes adds them up, and a vote finds the
// lane of a tile: a few dozen instructions for a tile, for any number of
// experts. All warps do the same, so no barrier is needed.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_TILESEARCH_H
#define LIB_CONVERSION_GPU_TILESEARCH_H

#include "KernelBuilder.h"

namespace mlir::moe {

/// A tile of results, in i32: rows [firstRow, endRow) of `expert`, of which the
/// tile has as many as fit, and columns from `firstColumn` on.
struct Tile {
  Value expert, firstRow, endRow, firstColumn;
};

class TileSearch {
public:
  /// Counts the tiles: `offsets` points to E + 1 i32, `numExperts` is an i32.
  /// Each thread of a block must come here, and to `find`.
  TileSearch(KernelBuilder &b, Value offsets, Value numExperts, Value lane,
             int64_t tileRows, int64_t tileColumns, int64_t numColumns);

  Value getNumTiles() const { return numTiles; }

  /// Tile `number`, which is below getNumTiles() and the same in all threads.
  Tile find(Value number);

private:
  /// Rows of an expert, and how many tiles they are.
  struct Expert {
    Value begin, end, numRowTiles;
  };

  Expert loadExpert(Value expert);

  KernelBuilder &b;
  Value offsets, expertsPerLane;
  /// Tiles of experts up to those of this lane, and before them.
  Value inclusive, exclusive;
  Value numTiles;
  int64_t tileRows, tileColumns, numColumnTiles;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_TILESEARCH_H
