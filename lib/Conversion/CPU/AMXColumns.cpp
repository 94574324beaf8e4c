//===- AMXColumns.cpp - AMX sums of weights along n -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Weights with n last are the second operand of TDPBF16PS, 16 rows of pairs of
// k: two rows of weights are interleaved, by the shuffle that vector code uses.
// A panel of 32 columns is made for 512 elements of k, 32 KB that stay near the
// first cache while all rows of the block, the first operand as they are,
// stream by. So weights are turned once for a block of rows, and a result is
// rows × columns, as the scratch block has it: no tile of results is turned.
//
// The shuffle mixes up the columns of a pair of tiles. They stay so in the
// scratch block from the first part of a term to its last one.
//
//===----------------------------------------------------------------------===//

#include "AMXColumns.h"

#include "AMXBuilder.h"
#include "BlockShuffles.h"
#include "VectorAccess.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {
class AMXColumnSums : AMXBuilder {
public:
  AMXColumnSums(const MatmulBuilder &matmul, const MatmulBlock &block,
                const BlockRows &rows, const ColumnGroup &group,
                const SumPart &part)
      : AMXBuilder(matmul, block, rows), group(group), part(part),
        shape(config, group) {}

  void build(OpBuilder &b) {
    if (!part.accumulate)
      clearScratch(b);
    else if (part.start == 0)
      reorderScratch(b, /*gather=*/true);
    int64_t tail = part.size % kStep, end = part.size - tail;
    loop(b, zero, index(b, end), index(b, kAMXPanelLength),
         [&](OpBuilder &b, Value start) {
           Value length =
               min(b, index(b, kAMXPanelLength), sub(b, index(b, end), start));
           buildPanels(b, {start, length, 0});
         });
    if (tail)
      buildPanels(b, {index(b, end), index(b, kStep), tail});
    if (part.start + part.size >= part.term.getLength())
      reorderScratch(b, /*gather=*/false);
  }

private:
  const ColumnGroup &group;
  const SumPart &part;
  ColumnShape shape;

  /// Whole steps of k from `start` on, as the part counts; of the last one of
  /// all, so many elements are there (0 for a whole one).
  struct Panel {
    Value start, length;
    int64_t tail;
  };

  void buildPanels(OpBuilder &b, const Panel &panel) {
    forTiles(b, block.begin, block.end, shape.getColumnsOfTile(),
             [&](OpBuilder &b, Value column, int64_t width) {
               fillPanel(b, panel, column, width);
               forRowTiles(
                   b, zero, [&](OpBuilder &b, Value rowTile, int64_t count) {
                     buildTiles(b, panel, column, width, rowTile, count);
                   });
             });
  }

  bool isMixed() { return shape.getVectorsOfMember() == 2; }

  int64_t numVectors(int64_t width) {
    return llvm::divideCeil(width, shape.getColumnsOfLoad()) *
           shape.getVectorsOfLoad();
  }

  //===--------------------------------------------------------------------===//
  // Weights
  //===--------------------------------------------------------------------===//

  /// block.columnPanel[k / 2, vector, 2·n + k % 2], 0 from the last element to
  /// the end of its step.
  void fillPanel(OpBuilder &b, const Panel &panel, Value column,
                 int64_t width) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = rows.expert;
    dims[Matmul::kColumn] = column;
    Value start = add(b, panel.start, index(b, part.start));
    Value pairs =
        panel.tail ? index(b, panel.tail / 2)
                   : arith::DivUIOp::create(b, loc, panel.length, index(b, 2));
    ColumnTile tile = {config,
                       group,
                       /*lhs=*/{},
                       dims,
                       /*rows=*/{},
                       /*tokens=*/{},
                       width,
                       start,
                       pairs,
                       panel.tail % 2 != 0,
                       ColumnTile::Source::WeightsToPanel,
                       block.columnPanel,
                       {}};
    if (!panel.tail)
      tile.prefetch = nextColumns(b, column, start, panel.length);
    buildColumnPanel(b, loc, tile);
    if (!panel.tail)
      return;
    Value none = arith::ConstantOp::create(
        b, loc, b.getZeroAttr(shape.getOperandType()));
    loop(b, index(b, llvm::divideCeil(panel.tail, 2)), index(b, kAMXTile), one,
         [&](OpBuilder &b, Value pair) {
           for (int64_t i = 0; i < numVectors(width); ++i)
             storeVector(b, loc, none, block.columnPanel,
                         ValueRange{pair, index(b, i), zero}, Value());
         });
  }

  /// What the next panel is made of, while this one is multiplied: the columns
  /// beside these, or the block's first ones in the next part of k.
  ColumnTile::Prefetch nextColumns(OpBuilder &b, Value column, Value start,
                                   Value length) {
    Value next = add(b, column, index(b, shape.getColumnsOfTile()));
    Value isInside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                           next, block.end);
    auto choose = [&](Value inside, Value otherwise) {
      return arith::SelectOp::create(b, loc, isInside, inside, otherwise);
    };
    return {rows.expert,
            choose(next, block.begin),
            choose(start, add(b, start, length)),
            shape.getLoadsOfTile(),
            shape.getStep(),
            /*toFirstCache=*/false};
  }

  //===--------------------------------------------------------------------===//
  // Sums
  //===--------------------------------------------------------------------===//

  /// The place of vector `i` of columns, for `rowTile`, in the scratch block.
  SmallVector<Value> placeOf(OpBuilder &b, Value column, int64_t width,
                             Value rowTile, int64_t i) {
    int64_t perMember = numVectors(width) / group.members.size();
    Value row = mul(b, rowTile, index(b, kAMXTile));
    Value local =
        add(b, sub(b, column, block.begin), index(b, i % perMember * kAMXTile));
    return {index(b, group.members[i / perMember].product), row, local};
  }

  /// Adds `count` tiles of rows × all vectors of columns.
  void buildTiles(OpBuilder &b, const Panel &panel, Value column, int64_t width,
                  Value rowTile, int64_t count) {
    SmallVector<SmallVector<Value>> places;
    Carried sums;
    for (int64_t i = 0; i < numVectors(width); ++i)
      for (int64_t row = 0; row < count; ++row) {
        places.push_back(
            placeOf(b, column, width, add(b, rowTile, index(b, row)), i));
        sums.push_back(amx::TileLoadOp::create(b, loc, sumType(b),
                                               block.scratch, places.back()));
      }
    sums = buildFor(
        b, loc, zero, panel.length, sums,
        [&](OpBuilder &b, Location, Value k, ValueRange carried) {
          return addStep(b, panel, width, rowTile, count, k, carried);
        },
        index(b, kStep));
    for (auto [tile, place] : llvm::zip(sums, places))
      amx::TileStoreOp::create(b, loc, block.scratch, place, tile);
  }

  /// sums += rows · weights for a step of k.
  Carried addStep(OpBuilder &b, const Panel &panel, int64_t width,
                  Value rowTile, int64_t count, Value k, ValueRange sums) {
    SmallVector<Value> rowTiles =
        loadRows(b, rowTile, count, add(b, panel.start, k));
    Value pair = arith::DivUIOp::create(b, loc, k, index(b, 2));
    Value distance = columnPanelDistance(b);
    Carried next;
    for (int64_t i = 0; i < numVectors(width); ++i) {
      Value weights = amx::TileLoadOp::create(
          b, loc, factorType(b), block.columnPanel,
          ValueRange{pair, index(b, i), zero}, distance);
      for (Value row : rowTiles)
        next.push_back(amx::TileMulFOp::create(b, loc, sumType(b), row, weights,
                                               sums[next.size()]));
    }
    return next;
  }

  /// Elements from a pair of k in the panel to the next one.
  Value columnPanelDistance(OpBuilder &b) {
    auto type = cast<MemRefType>(block.columnPanel.getType());
    return index(b, type.getDimSize(1) * type.getDimSize(2));
  }

  /// Loops over the rows and, `step` at a time, the columns of the scratch
  /// block.
  void forScratch(OpBuilder &b, int64_t step,
                  function_ref<void(OpBuilder &, Value, Value)> body) {
    Value width = sub(b, block.end, block.begin);
    loop(b, zero, rows.count, one, [&](OpBuilder &b, Value place) {
      loop(b, zero, width, index(b, step),
           [&](OpBuilder &b, Value column) { body(b, place, column); });
    });
  }

  void clearScratch(OpBuilder &b) {
    Value none = arith::ConstantOp::create(
        b, loc, b.getZeroAttr(VectorType::get({kAMXTile}, b.getF32Type())));
    // In pairs of tiles: columns that are mixed up lie beyond the last, too.
    forScratch(b, 2 * kAMXTile, [&](OpBuilder &b, Value place, Value column) {
      for (const ColumnGroup::Member &member : group.members)
        for (int64_t i : {int64_t(0), kAMXTile})
          storeVector(b, loc, none, block.scratch,
                      ValueRange{index(b, member.product), place,
                                 add(b, column, index(b, i))},
                      Value());
    });
  }

  /// The columns of each pair of tiles from their order to that of the
  /// products, or back.
  void reorderScratch(OpBuilder &b, bool gather) {
    if (!isMixed())
      return;
    BlockShuffles masks = getBlockOrder(kAMXTile, gather);
    Value product = index(b, group.members[0].product);
    forScratch(b, 2 * kAMXTile, [&](OpBuilder &b, Value place, Value column) {
      SmallVector<Value> first = {product, place, column};
      SmallVector<Value> second = {product, place,
                                   add(b, column, index(b, kAMXTile))};
      auto load = [&](ValueRange at) {
        return loadVector(b, loc, block.scratch, at, kAMXTile, Value());
      };
      auto [x, y] = shufflePair(b, loc, load(first), load(second), masks);
      storeVector(b, loc, x, block.scratch, first, Value());
      storeVector(b, loc, y, block.scratch, second, Value());
    });
  }
};
} // namespace

void mlir::moe::buildAMXColumnPart(
    OpBuilder &builder, const MatmulBuilder &matmul, const MatmulBlock &block,
    const BlockRows &rows, const ColumnGroup &group, const SumPart &part) {
  AMXColumnSums(matmul, block, rows, group, part).build(builder);
}
