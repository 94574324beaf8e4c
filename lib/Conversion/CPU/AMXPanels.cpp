//===- AMXPanels.cpp - AMX sums of packed weights ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Packed weights are the second operand of TDPBF16PS as they lie: 16 steps of a
// panel, half of its columns each. Rows are the first, and results rows ×
// columns, as the scratch has them: nothing is turned. What of k a step has not
// is copied to the stack and filled up with zeros.
//
// Panels of columns, parts of k, tiles of rows, from outside in, as in
// PackedBlock.cpp: a part of a panel stays in the first cache, and rows come
// from the second.
//
//===----------------------------------------------------------------------===//

#include "AMXPanels.h"

#include "AMXBuilder.h"
#include "PackedKernel.h"
#include "VectorAccess.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// Tiles of columns in a panel.
static constexpr int64_t kColumnTiles = kPanelColumns / kAMXTile;

namespace {
class AMXPanelSums : AMXBuilder {
public:
  AMXPanelSums(OpBuilder &b, const MatmulBuilder &matmul,
               const MatmulBlock &block, const BlockRows &rows,
               const PackedSum &sum)
      : AMXBuilder(matmul, block, rows), sum(sum), part(sum.part),
        weights(b, loc, part.term), tail(part.size % kStep) {}

  void build(OpBuilder &b) {
    // Beyond N a panel has zeros.
    loop(b, block.begin, block.end, index(b, kPanelColumns),
         [&](OpBuilder &b, Value column) { buildPanel(b, column); });
  }

private:
  const PackedSum &sum;
  const SumPart &part;
  PackedWeights weights;
  /// Elements of k that the last step has, which is not whole.
  int64_t tail;

  /// Whole steps of a panel: `length` elements of k from `start` on, as the
  /// part counts.
  struct Run {
    Value column, start, length;
    bool accumulate;
  };

  /// Up to two tiles of rows: of the panel, or where they lie.
  struct RowTiles {
    Value first;
    int64_t count;
    bool inPlace;
  };

  /// What is asked for in each step: so many cache lines of the next part.
  struct Prefetch {
    PackedPlace place;
    int64_t numLines;
    /// From the place on, and how much further each step.
    Value element, growth;
  };

  void buildPanel(OpBuilder &b, Value column) {
    int64_t whole = part.size - tail, length = getPartLength(config, part.size);
    int64_t rest = 0;
    // The first run overwrites.
    if (whole && !part.accumulate) {
      rest = std::min(length, whole);
      buildRun(b, {column, zero, index(b, rest), false});
    }
    if (rest < whole)
      loop(b, index(b, rest), index(b, whole), index(b, length),
           [&](OpBuilder &b, Value start) {
             Value count =
                 min(b, index(b, length), sub(b, index(b, whole), start));
             buildRun(b, {column, start, count, true});
           });
    if (tail)
      buildTail(b, column, part.accumulate || whole);
  }

  //===--------------------------------------------------------------------===//
  // Whole steps
  //===--------------------------------------------------------------------===//

  void buildRun(OpBuilder &b, const Run &run) {
    PackedPlace next = findNextPart(
        b, *this, block, rows, sum, run.column,
        add(b, index(b, part.start), add(b, run.start, run.length)));
    either(b, areRowsFew(b), [&](OpBuilder &b, bool areFew) {
      Value copied = areFew ? zero : firstPanelTile(b, part.term);
      auto build = [&](OpBuilder &b, const RowTiles &tiles) {
        buildTiles(b, run, tiles, share(b, next, run, tiles.first, areFew));
      };
      if (copied != zero)
        loop(b, zero, copied, index(b, 2), [&](OpBuilder &b, Value rowTile) {
          build(b, {rowTile, 2, /*inPlace=*/true});
        });
      forRowTiles(b, copied, [&](OpBuilder &b, Value rowTile, int64_t count) {
        build(b, {rowTile, count, /*inPlace=*/false});
      });
    });
  }

  /// Pairs of row tiles share the next part evenly, as PackedBlock's tiles do:
  /// a step asks for as much as it multiplies if they are the only ones, or for
  /// half of it at least.
  Prefetch share(OpBuilder &b, const PackedPlace &next, const Run &run,
                 Value rowTile, bool areFew) {
    int64_t perElement = weights.stepSize / weights.pair;
    int64_t stepSize = kStep * perElement,
            numLines = stepSize / weights.getLineSize();
    if (areFew)
      return {next, numLines, zero, index(b, stepSize)};
    auto ceilDiv = [&](Value x, Value y) -> Value {
      return arith::CeilDivUIOp::create(b, loc, x, y);
    };
    Value numTurns = ceilDiv(rows.count, index(b, kStep));
    Value turn = arith::DivUIOp::create(b, loc, rowTile, index(b, 2));
    Value size = mul(b, run.length, index(b, perElement));
    return {next, numLines / 2, mul(b, turn, ceilDiv(size, numTurns)),
            buildShare(b, loc, stepSize, numTurns)};
  }

  /// The sums are in registers over all of the run.
  void buildTiles(OpBuilder &b, const Run &run, const RowTiles &tiles,
                  const Prefetch &prefetch) {
    updateSums(
        b, run.column, tiles, run.accumulate, [&](OpBuilder &b, Carried sums) {
          return buildFor(
              b, loc, zero, run.length, sums,
              [&](OpBuilder &b, Location, Value k, ValueRange carried) {
                buildPrefetches(b, prefetch, k);
                Value here = add(b, run.start, k);
                return multiply(b, loadRowTiles(b, tiles, here),
                                loadWeights(b, run.column, here), carried);
              },
              index(b, kStep));
        });
  }

  void buildPrefetches(OpBuilder &b, const Prefetch &prefetch, Value k) {
    Value step = arith::DivUIOp::create(b, loc, k, index(b, kStep));
    const PackedPlace &next = prefetch.place;
    SmallVector<Value> at =
        weights.placeOf(b, loc, next.expert, next.column, next.sum);
    at.back() = add(b, prefetch.element, mul(b, step, prefetch.growth));
    weights.prefetch(b, loc, next.weights, at, prefetch.numLines);
  }

  SmallVector<Value> loadRowTiles(OpBuilder &b, const RowTiles &tiles,
                                  Value k) {
    if (!tiles.inPlace)
      return loadRows(b, tiles.first, tiles.count, k);
    Value row = add(b, rows.first, mul(b, tiles.first, index(b, kAMXTile)));
    Value sum = add(b, k, index(b, part.start));
    SmallVector<Value> loaded;
    for (int64_t i = 0; i < tiles.count; ++i)
      loaded.push_back(amx::TileLoadOp::create(
          b, loc, factorType(b), part.term.lhs,
          ValueRange{add(b, row, index(b, i * kAMXTile)), sum}));
    return loaded;
  }

  SmallVector<Value> loadWeights(OpBuilder &b, Value column, Value k) {
    SmallVector<Value> loaded;
    SmallVector<Value> at = weights.placeOf(b, loc, rows.expert, column,
                                            add(b, k, index(b, part.start)));
    for (int64_t i = 0; i < kColumnTiles; ++i) {
      at.back() = index(b, i * kStep);
      loaded.push_back(
          amx::TileLoadOp::create(b, loc, factorType(b), weights.buffer, at));
    }
    return loaded;
  }

  //===--------------------------------------------------------------------===//
  // The last step
  //===--------------------------------------------------------------------===//

  void buildTail(OpBuilder &b, Value column, bool accumulate) {
    Value k = index(b, part.size - tail);
    copyTail(b, column, k);
    forRowTiles(b, zero, [&](OpBuilder &b, Value rowTile, int64_t count) {
      RowTiles tiles = {rowTile, count, /*inPlace=*/false};
      updateSums(b, column, tiles, accumulate, [&](OpBuilder &b, Carried sums) {
        SmallVector<Value> edge;
        for (int64_t i = 0; i < kColumnTiles; ++i)
          edge.push_back(
              amx::TileLoadOp::create(b, loc, factorType(b), block.amx.edge,
                                      ValueRange{index(b, i), zero, zero}));
        return multiply(b, loadRowTiles(b, tiles, k), edge, sums);
      });
    });
  }

  /// edge[tile, k / 2, 2·n + k % 2], 0 from the last pair on: what follows in
  /// memory, if anything does, is another panel's.
  void copyTail(OpBuilder &b, Value column, Value k) {
    Value numPairs = index(b, llvm::divideCeil(tail, weights.pair));
    SmallVector<Value> at = weights.placeOf(b, loc, rows.expert, column,
                                            add(b, k, index(b, part.start)));
    Value begin = at[at.size() - 2];
    loop(b, zero, numPairs, one, [&](OpBuilder &b, Value pair) {
      at[at.size() - 2] = add(b, begin, pair);
      for (int64_t i = 0; i < kColumnTiles; ++i) {
        at.back() = index(b, i * kStep);
        Value loaded =
            loadVector(b, loc, weights.buffer, at, kStep, /*mask=*/Value());
        storeEdge(b, loaded, i, pair);
      }
    });
    Value none = arith::ConstantOp::create(
        b, loc, b.getZeroAttr(VectorType::get({kStep}, b.getBF16Type())));
    loop(b, numPairs, index(b, kAMXTile), one, [&](OpBuilder &b, Value pair) {
      for (int64_t i = 0; i < kColumnTiles; ++i)
        storeEdge(b, none, i, pair);
    });
  }

  void storeEdge(OpBuilder &b, Value vector, int64_t tile, Value pair) {
    storeVector(b, loc, vector, block.amx.edge,
                ValueRange{index(b, tile), pair, zero}, /*mask=*/Value());
  }

  //===--------------------------------------------------------------------===//
  // Sums
  //===--------------------------------------------------------------------===//

  /// Row tiles × the columns of a panel: from the scratch, or from 0 on, to the
  /// scratch. Rows beyond the last mean nothing there, as columns beyond N do.
  void updateSums(OpBuilder &b, Value column, const RowTiles &tiles,
                  bool accumulate,
                  function_ref<Carried(OpBuilder &, Carried)> update) {
    Value local = sub(b, column, block.begin);
    SmallVector<SmallVector<Value>> places;
    Carried sums;
    for (int64_t i = 0; i < kColumnTiles; ++i)
      for (int64_t row = 0; row < tiles.count; ++row) {
        Value rowTile = add(b, tiles.first, index(b, row));
        places.push_back({index(b, part.product),
                          mul(b, rowTile, index(b, kAMXTile)),
                          add(b, local, index(b, i * kAMXTile))});
        if (accumulate)
          sums.push_back(amx::TileLoadOp::create(b, loc, sumType(b),
                                                 block.scratch, places.back()));
        else
          sums.push_back(amx::TileZeroOp::create(b, loc, sumType(b)));
      }
    for (auto [place, tile] : llvm::zip(places, update(b, sums)))
      amx::TileStoreOp::create(b, loc, block.scratch, place, tile);
  }

  /// sums += rows · weights, tiles of columns by tiles of rows.
  Carried multiply(OpBuilder &b, ArrayRef<Value> rowTiles,
                   ArrayRef<Value> columnTiles, ValueRange sums) {
    Carried next;
    for (Value column : columnTiles)
      for (Value row : rowTiles)
        next.push_back(amx::TileMulFOp::create(b, loc, sumType(b), row, column,
                                               sums[next.size()]));
    return next;
  }
};
} // namespace

void mlir::moe::buildAMXPanelPart(OpBuilder &builder,
                                  const MatmulBuilder &matmul,
                                  const MatmulBlock &block,
                                  const BlockRows &rows, const PackedSum &sum) {
  AMXPanelSums(builder, matmul, block, rows, sum).build(builder);
}
