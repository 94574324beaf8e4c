//===- MatmulBuilder.h - What code of a grouped matmul shares ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_MATMULBUILDER_H
#define LIB_CONVERSION_CPU_MATMULBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

namespace mlir::moe {

/// A grouped matmul on buffers, its strategy, and small builders: the base of
/// what emits its code.
class MatmulBuilder {
public:
  using Matmul = GroupedMatmulOp;

  /// `b` is where constants that all code may use are put.
  MatmulBuilder(OpBuilder &b, Matmul op, CPUMatmulAttr config)
      : op(op), loc(op.getLoc()), config(config), products(op.getProducts()),
        numColumns(op.getNumColumns()), zero(buildIndex(b, loc, 0)),
        one(buildIndex(b, loc, 1)) {}

protected:
  Matmul op;
  Location loc;
  CPUMatmulAttr config;
  SmallVector<Matmul::Product> products;
  int64_t numColumns;
  Value zero, one;

  Value index(OpBuilder &b, int64_t value) { return buildIndex(b, loc, value); }
  Value add(OpBuilder &b, Value x, Value y) {
    return arith::AddIOp::create(b, loc, x, y);
  }
  Value sub(OpBuilder &b, Value x, Value y) {
    return arith::SubIOp::create(b, loc, x, y);
  }
  Value mul(OpBuilder &b, Value x, Value y) {
    return arith::MulIOp::create(b, loc, x, y);
  }
  Value min(OpBuilder &b, Value x, Value y) {
    return arith::MinSIOp::create(b, loc, x, y);
  }
  /// A loop that carries nothing.
  void loop(OpBuilder &b, Value lower, Value upper, Value step,
            function_ref<void(OpBuilder &, Value)> body) {
    buildLoop(b, loc, lower, upper, step, body);
  }
  Value isAtMost(OpBuilder &b, Value x, int64_t y) {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ule, x,
                                 index(b, y));
  }
  /// Code for both values of `condition`, which `branch` is called with.
  void either(OpBuilder &b, Value condition,
              function_ref<void(OpBuilder &, bool)> branch);
  /// Code for each number of rows from `least` to `most`, which `count` is
  /// between; none for 0.
  void switchRows(OpBuilder &b, Value count, int64_t least, int64_t most,
                  function_ref<void(OpBuilder &, int64_t)> body);
  Value loadIndex(OpBuilder &b, Value buffer, ValueRange at);

  /// t and j of a row.
  struct TokenOfRow {
    OpFoldResult token, choice;
  };
  TokenOfRow tokenOf(OpBuilder &b, Value row);

  /// m and t of rows that a tile of `term` multiplies; m is the place in the
  /// panel of the block's rows where a prologue computes them.
  struct TileRows {
    SmallVector<OpFoldResult> rows, tokens;
  };
  /// `height` rows from `first` + `place` on.
  TileRows tileRowsOf(OpBuilder &b, const Matmul::Term &term, Value first,
                      Value place, int64_t height);

  /// Calls `body` with each tile of `width` columns in [begin, end) and, where
  /// these are the last ones, with the narrower tile that N leaves.
  void forTiles(OpBuilder &b, Value begin, Value end, int64_t width,
                function_ref<void(OpBuilder &, Value, int64_t)> body);
  /// Its two halves: where the tiles of `width` columns end, and the narrower
  /// one.
  Value endOfWholeTiles(OpBuilder &b, Value end, int64_t width);
  void ifRestOfTiles(OpBuilder &b, Value end, int64_t width,
                     function_ref<void(OpBuilder &, Value, int64_t)> body);

  /// Columns from `column` on; null where N is a multiple of a vector's.
  Value numColumnsFrom(OpBuilder &b, Value column);
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_MATMULBUILDER_H
