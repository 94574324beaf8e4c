//===- TiledIndices.h - Index expressions of a tile -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tile counts its rows and columns from 0, so an operand that is indexed by
// them is replaced by a slice that starts where the tile does. How far an index
// moves with the tile follows from its expression: by n₀ for `n + 1024`, by
// 2·n₀ for `2 * n`, by n₀/32 for `n floordiv 32`, where 32 divides n₀.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_TILEDINDICES_H
#define LIB_DIALECT_MOE_TRANSFORMS_TILEDINDICES_H

#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Builders.h"

#include <optional>
#include <string>

namespace mlir::moe {

/// [offset, offset + size) of a dimension of the iteration space.
struct Tile {
  OpFoldResult offset, size;
};

/// A dimension of index maps that is tiled, and its tile.
struct TiledDim {
  unsigned dim;
  Tile tile;
};

/// The slice of an operand that a tile reads, and what indexes it there.
struct IndexedSlice {
  Value value;
  AffineMap map;
};

/// Slices `operand`, indexed by `map`, where its indices move with `tiled`;
/// extract_slice ops are appended to `slices`. Fails, with the reason in
/// `whyNot`, where no slice makes the indices right.
FailureOr<IndexedSlice> sliceIndexed(OpBuilder &builder, Location loc,
                                     Value operand, AffineMap map,
                                     ArrayRef<TiledDim> tiled,
                                     SmallVectorImpl<Operation *> &slices,
                                     std::string &whyNot);

/// The part of dimensions 0, 1, … of `operand` that `tiles` name; none means
/// all of a dimension.
Value sliceLeading(OpBuilder &builder, Location loc, Value operand,
                   ArrayRef<std::optional<Tile>> tiles,
                   SmallVectorImpl<Operation *> &slices);

/// True if the tile is known to be all of dimension `dim` of `value`.
bool isWholeDim(const Tile &tile, Value value, int64_t dim);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_TILEDINDICES_H
