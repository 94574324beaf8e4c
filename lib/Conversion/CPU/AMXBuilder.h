//===- AMXBuilder.h - What code for AMX shares ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_AMXBUILDER_H
#define LIB_CONVERSION_CPU_AMXBUILDER_H

#include "AMXBlock.h"
#include "WeightLayout.h"
#include "mlir/Dialect/AMX/AMXDialect.h"

namespace mlir::moe {

/// The rows of a block in tiles.
class AMXBuilder : protected MatmulBuilder {
protected:
  AMXBuilder(const MatmulBuilder &matmul, const MatmulBlock &block,
             const BlockRows &rows)
      : MatmulBuilder(matmul), block(block), rows(rows) {}

  /// Elements of k in a row of a tile.
  static constexpr int64_t kStep = 2 * kAMXTile;

  const MatmulBlock &block;
  const BlockRows &rows;

  /// So many tiles of rows from `rowTile` on.
  using RowTileBody =
      function_ref<void(OpBuilder &, Value rowTile, int64_t count)>;

  amx::TileType factorType(OpBuilder &b) {
    return amx::TileType::get({kAMXTile, kStep}, b.getBF16Type());
  }
  amx::TileType sumType(OpBuilder &b) {
    return amx::TileType::get({kAMXTile, kAMXTile}, b.getF32Type());
  }

  Value numRowTiles(OpBuilder &b) {
    return arith::DivUIOp::create(
        b, loc, add(b, rows.count, index(b, kAMXTile - 1)), index(b, kAMXTile));
  }

  /// The rows of the block from an even tile on: two tiles at a time, then one
  /// that is left.
  void forRowTiles(OpBuilder &b, Value first, RowTileBody body) {
    Value count = numRowTiles(b);
    Value isOdd = arith::RemUIOp::create(b, loc, count, index(b, 2));
    Value whole = sub(b, count, isOdd);
    loop(b, first, whole, index(b, 2),
         [&](OpBuilder &b, Value rowTile) { body(b, rowTile, 2); });
    loop(b, whole, count, one,
         [&](OpBuilder &b, Value rowTile) { body(b, rowTile, 1); });
  }

  /// Rows that take two tiles at most.
  Value areRowsFew(OpBuilder &b) { return isAtMost(b, rows.count, kStep); }

  /// The tiles of the rows of `term` before this one are read where they lie,
  /// without the panel: pairs of whole ones, as a tile that is not whole could
  /// reach beyond the last row. Where rows are few, all are copied.
  Value firstPanelTile(OpBuilder &b, const Matmul::Term &term) {
    if (!isPacked(term) || term.isGathered() || term.prologue)
      return zero;
    Value pairs = arith::DivUIOp::create(b, loc, rows.count, index(b, kStep));
    return arith::SelectOp::create(b, loc, areRowsFew(b), zero,
                                   mul(b, pairs, index(b, 2)));
  }

  /// Tiles of the panel of rows, from element `k` of a part on.
  SmallVector<Value> loadRows(OpBuilder &b, Value rowTile, int64_t count,
                              Value k) {
    Value pair = arith::DivUIOp::create(b, loc, k, index(b, 2));
    SmallVector<Value> tiles;
    for (int64_t i = 0; i < count; ++i)
      tiles.push_back(amx::TileLoadOp::create(
          b, loc, factorType(b), block.amx.panel,
          ValueRange{add(b, rowTile, index(b, i)), pair, zero}));
    return tiles;
  }
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_AMXBUILDER_H
