//===- PackedBlock.cpp - The sums of a block, of packed weights -----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Panels of columns, parts of k, tiles of rows, from outside in. A part of a
// panel (32 columns × 1024 of bf16 = 64 KB) stays in a cache while all rows of
// the block are multiplied by it, and the sums wait in the scratch. All that a
// block reads of an expert's weights is in one piece of memory, and is read
// from its beginning to its end.
//
//===----------------------------------------------------------------------===//

#include "PackedBlock.h"

#include "PackedKernel.h"
#include "VectorAccess.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {
class PackedSums : MatmulBuilder {
public:
  PackedSums(OpBuilder &b, const MatmulBuilder &matmul,
             const MatmulBlock &block, const BlockRows &rows,
             const PackedSum &sum)
      : MatmulBuilder(matmul), block(block), rows(rows), sum(sum),
        weights(b, loc, sum.part.term) {}

  void build(OpBuilder &b) {
    Stretch whole = getWhole(b);
    Value length = index(b, getRowPartLength(config, sum.part.term));
    loop(b, whole.start, whole.end, length, [&](OpBuilder &b, Value start) {
      Stretch stretch = {start, min(b, add(b, start, length), whole.end)};
      Value rest = buildPairs(b, stretch);
      forPanels(b, rest, [&](OpBuilder &b, Value column) {
        buildPanels(b, stretch, {column, 1});
      });
    });
    if (hasTail())
      forPanels(b, block.begin,
                [&](OpBuilder &b, Value column) { buildTail(b, column); });
  }

  /// What all panels are multiplied over, one after the other, so that the rows
  /// are in the second cache meanwhile: k in [start, end).
  struct Stretch {
    Value start, end;
  };

  /// Panels that tiles multiply at once, side by side from a column on.
  struct Columns {
    Value first;
    int64_t numPanels;
  };

  Stretch getWhole(OpBuilder &b) {
    return {index(b, sum.part.start), index(b, getWholeEnd())};
  }

  /// After a part comes the next one of the same panel, or the first one of the
  /// next panel or, after the block's last, of its first in the next stretch,
  /// sum or expert. If that is not known, of the next block, whose task is
  /// likely to follow.
  PackedPlace findNextPart(OpBuilder &b, const Stretch &stretch,
                           const Columns &columns, Value end) {
    auto isBelow = [&](Value x, Value y) -> Value {
      return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, x, y);
    };
    auto select = [&](Value condition, Value x, Value y) -> Value {
      return arith::SelectOp::create(b, loc, condition, x, y);
    };
    Value beside =
        add(b, columns.first, index(b, columns.numPanels * kPanelColumns));
    Value hasPart = isBelow(end, stretch.end);
    Value hasPanel = isBelow(beside, block.end);
    Value hasStretch = isBelow(stretch.end, index(b, getWholeEnd()));
    const SumPart *after = findNext();
    auto choose = [&](Value inPart, Value inPanel, Value inStretch,
                      Value otherwise) {
      Value last = select(hasStretch, inStretch, otherwise);
      return select(hasPart, inPart, select(hasPanel, inPanel, last));
    };
    PackedPlace next = {
        weights.buffer, rows.expert,
        choose(columns.first, beside, block.begin,
               after ? block.begin : beside),
        choose(end, stretch.start, stretch.end,
               index(b, after ? after->start : sum.part.start))};
    if (!after)
      return next;
    Value isHere = arith::OrIOp::create(
        b, loc, hasPart, arith::OrIOp::create(b, loc, hasPanel, hasStretch));
    PackedWeights later(b, loc, after->term);
    next.weights = select(isHere, weights.buffer, later.buffer);
    if (!sum.next)
      next.expert = select(isHere, rows.expert, rows.nextExpert);
    return next;
  }

private:
  const MatmulBlock &block;
  const BlockRows &rows;
  const PackedSum &sum;
  PackedWeights weights;

  bool hasTail() const { return sum.part.size % weights.pair != 0; }
  /// Where whole steps end.
  int64_t getWholeEnd() const {
    return sum.part.start + llvm::alignDown(sum.part.size, weights.pair);
  }

  /// Beyond N a panel has zeros.
  void forPanels(OpBuilder &b, Value begin,
                 function_ref<void(OpBuilder &, Value)> body) {
    loop(b, begin, block.end, index(b, kPanelColumns), body);
  }

  /// Two panels at once for a lone row, whose sums in one wait for each other:
  /// a product takes four cycles or more, and two a cycle could begin. Returns
  /// the column that pairs end at, which one is left from if panels are odd.
  Value buildPairs(OpBuilder &b, const Stretch &stretch) {
    constexpr int64_t kPairColumns = 2 * kPanelColumns, kFewSums = 4;
    if (config.getTileColumns() > kFewSums ||
        config.getBlockColumns() < kPairColumns)
      return block.begin;
    Value width =
        add(b, sub(b, block.end, block.begin), index(b, kPanelColumns - 1));
    Value rest = arith::RemUIOp::create(b, loc, width, index(b, kPairColumns));
    Value inPairs = arith::SelectOp::create(b, loc, isAtMost(b, rows.count, 1),
                                            sub(b, width, rest), zero);
    Value end = add(b, block.begin, inPairs);
    loop(b, block.begin, end, index(b, kPairColumns),
         [&](OpBuilder &b, Value column) {
           buildPanels(b, stretch, {column, 2});
         });
    return end;
  }

  /// Steps of k from `start` on, the k after them, and whether one element
  /// follows; the stretch (null for a tail), and whether there is nothing to
  /// add to yet (null for never).
  struct Part {
    Value start, steps, end;
    bool tail;
    const Stretch *stretch;
    Value isFirst;
  };

  /// Weights that one tile reads do not wait in the first cache for others: a
  /// part is how far ahead they are asked for, and in vain where a task ends.
  int64_t getLengthOfPart(const Columns &columns) const {
    constexpr int64_t kLengthInPairs = 64;
    int64_t length = getPartLength(config, sum.part.term.getLength());
    return columns.numPanels > 1 ? std::min(length, kLengthInPairs) : length;
  }

  void buildPanels(OpBuilder &b, const Stretch &stretch,
                   const Columns &columns) {
    Value length = index(b, getLengthOfPart(columns));
    loop(b, stretch.start, stretch.end, length, [&](OpBuilder &b, Value start) {
      Value count = min(b, length, sub(b, stretch.end, start));
      Value steps =
          arith::DivUIOp::create(b, loc, count, index(b, weights.pair));
      Value isFirst;
      if (!sum.part.accumulate)
        isFirst = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, start,
                                        index(b, sum.part.start));
      Part part = {start, steps,    add(b, start, count),
                   false, &stretch, isFirst};
      if (columns.numPanels > 1)
        buildLoneRow(b, part, columns);
      else
        buildRowTiles(b, part, columns);
    });
  }

  void buildTail(OpBuilder &b, Value column) {
    Value end = index(b, getWholeEnd()), isFirst;
    if (!sum.part.accumulate && sum.part.size < weights.pair)
      isFirst = arith::ConstantIntOp::create(b, loc, 1, 1);
    buildRowTiles(b, {end, zero, end, true, nullptr, isFirst}, {column, 1});
  }

  /// `height` rows from `place` on.
  struct Tile {
    Value place;
    int64_t height;
    const PackedAhead &ahead;
  };

  /// Number `index` of `count` tiles of rows.
  struct Turn {
    Value index, count;
  };

  /// Tiles of about equal height: each takes as long as its loads of weights
  /// at least, however few its rows are.
  void buildRowTiles(OpBuilder &b, const Part &part, const Columns &columns) {
    int64_t most = config.getTileRows();
    Value numTiles =
        arith::CeilDivUIOp::create(b, loc, rows.count, index(b, most));
    Value low = arith::DivUIOp::create(b, loc, rows.count, numTiles);
    Value numHigh = arith::RemUIOp::create(b, loc, rows.count, numTiles);
    // The place is carried: LLVM would compute min(i, numHigh) and its division
    // where rows are read, at each step of k.
    buildFor(
        b, loc, zero, numTiles, zero,
        [&](OpBuilder &b, Location, Value i, ValueRange place) -> Carried {
          Value isHigh = arith::CmpIOp::create(
              b, loc, arith::CmpIPredicate::ult, i, numHigh);
          Value numRows =
              add(b, low, arith::SelectOp::create(b, loc, isHigh, one, zero));
          // The same for all heights.
          PackedAhead ahead = {};
          if (!part.tail) {
            setPanel(b, part, columns, {i, numTiles}, ahead);
            setRows(b, part, columns.first, {i, numTiles}, ahead);
          }
          switchRows(b, numRows, 1, most, [&](OpBuilder &b, int64_t height) {
            buildTile(b, part, columns, {place[0], height, ahead});
          });
          return {add(b, place[0], numRows)};
        });
  }

  void buildLoneRow(OpBuilder &b, const Part &part, const Columns &columns) {
    PackedAhead ahead = {};
    setPanel(b, part, columns, {zero, one}, ahead);
    buildTile(b, part, columns, {zero, 1, ahead});
  }

  void buildTile(OpBuilder &b, const Part &part, const Columns &columns,
                 const Tile &tile) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = rows.expert;
    dims[Matmul::kColumn] = columns.first;
    TileRows tileRows =
        tileRowsOf(b, sum.part.term, rows.first, tile.place, tile.height);
    PackedTile packed = {config,          weights,    columns.numPanels,
                         sum.lhs,         dims,       tileRows.rows,
                         tileRows.tokens, part.start, part.steps,
                         part.tail,       tile.ahead};
    SmallVector<Value> sums;
    auto type = VectorType::get({config.getLanes()}, b.getF32Type());
    forSums(b, tile, columns, [&](ValueRange at) {
      Value before = vector::LoadOp::create(b, loc, type, block.scratch, at);
      if (part.isFirst)
        before = arith::SelectOp::create(
            b, loc, part.isFirst,
            arith::ConstantOp::create(b, loc, b.getZeroAttr(type)), before);
      sums.push_back(before);
    });
    sums = buildPackedTile(b, loc, packed, sums);
    size_t i = 0;
    forSums(b, tile, columns, [&](ValueRange at) {
      vector::StoreOp::create(b, loc, sums[i++], block.scratch, at);
    });
  }

  /// The places of a tile's sums in the scratch, in their order. Lanes beyond
  /// the last column are there.
  void forSums(OpBuilder &b, const Tile &tile, const Columns &columns,
               function_ref<void(ValueRange)> body) {
    Value local = sub(b, columns.first, block.begin);
    int64_t numVectors = columns.numPanels * config.getTileColumns();
    for (int64_t i = 0; i < tile.height; ++i)
      for (int64_t v = 0; v < numVectors; ++v)
        body({index(b, sum.part.product), add(b, tile.place, index(b, i)),
              add(b, local, index(b, v * config.getLanes()))});
  }

  /// The tiles share the next part evenly: memory works as long as they
  /// compute, and never gets more requests at once than it serves (the core
  /// drops prefetches then).
  void setPanel(OpBuilder &b, const Part &part, const Columns &columns,
                const Turn &turn, PackedAhead &ahead) {
    PackedPlace next = findNextPart(b, *part.stretch, columns, part.end);
    Value size = mul(b, part.steps, index(b, weights.stepSize));
    Value share = arith::CeilDivUIOp::create(b, loc, size, turn.count);
    ahead.panel = {next.weights,
                   next.expert,
                   next.column,
                   next.sum,
                   mul(b, turn.index, share),
                   buildShare(b, loc, weights.stepSize, turn.count)};
  }

  /// What the block multiplies after this sum, here or at the next expert; null
  /// if that is not known, or in a buffer of another type.
  const SumPart *findNext() {
    const SumPart *next = sum.next;
    if (!next && rows.nextExpert)
      next = &sum.first;
    bool isAlike = next && next->term.getWeight().getType() ==
                               sum.part.term.getWeight().getType();
    return isAlike ? next : nullptr;
  }

  /// The rows of a combining matmul lie one after the other, and each block of
  /// columns reads them all: the tiles of a block of rows ask for the next one,
  /// as many bytes in each step, which its first panel would wait for.
  void setRows(OpBuilder &b, const Part &part, Value column, const Turn &turn,
               PackedAhead &ahead) {
    const Matmul::Term &term = sum.part.term;
    if (!op.isCombining() || term.isGathered() || term.prologue)
      return;
    int64_t numPanels =
        llvm::divideCeil(config.getBlockColumns(), kPanelColumns);
    auto &later = ahead.rows;
    later.row = add(b, rows.first, rows.count);
    later.growth =
        llvm::divideCeil(config.getTileRows() * weights.pair, numPanels);
    // Elements of k before this part, and the steps of all tiles over them.
    const Stretch &stretch = *part.stretch;
    Value panel = arith::DivUIOp::create(b, loc, sub(b, column, block.begin),
                                         index(b, kPanelColumns));
    Value done =
        add(b, mul(b, panel, sub(b, stretch.end, stretch.start)),
            add(b, part.start, mul(b, stretch.start, index(b, numPanels - 1))));
    Value before =
        mul(b, arith::DivUIOp::create(b, loc, done, index(b, weights.pair)),
            turn.count);
    later.element = mul(b, add(b, before, mul(b, turn.index, part.steps)),
                        index(b, later.growth));
  }
};
} // namespace

Value mlir::moe::buildShare(OpBuilder &b, Location loc, int64_t size,
                            Value count) {
  constexpr int64_t kHighestBit = 63;
  Value bits = arith::IndexCastOp::create(b, loc, b.getI64Type(), count);
  Value log = arith::SubIOp::create(
      b, loc, buildIndex(b, loc, kHighestBit),
      arith::IndexCastOp::create(
          b, loc, b.getIndexType(),
          math::CountLeadingZerosOp::create(b, loc, bits)));
  return arith::ShRUIOp::create(b, loc, buildIndex(b, loc, size), log);
}

PackedPlace mlir::moe::findNextPart(OpBuilder &b, const MatmulBuilder &matmul,
                                    const MatmulBlock &block,
                                    const BlockRows &rows, const PackedSum &sum,
                                    Value column, Value end) {
  PackedSums sums(b, matmul, block, rows, sum);
  return sums.findNextPart(b, sums.getWhole(b), {column, 1}, end);
}

void mlir::moe::buildPackedSums(OpBuilder &builder, const MatmulBuilder &matmul,
                                const MatmulBlock &block, const BlockRows &rows,
                                const PackedSum &sum) {
  PackedSums(builder, matmul, block, rows, sum).build(builder);
}
