//===- ColumnBlock.cpp - The sums of a block, of weights along n ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parts of k, tiles of columns, tiles of rows, from outside in. A row of
// weights brings few neighbours of a tile from memory, the next one is in
// another page; so a block is wide, a part of k is short, and each tile asks
// for what the next one will read, which is beside it. The first tile of rows
// makes a panel of its operands on the way, which is all that the other rows
// read.
//
//===----------------------------------------------------------------------===//

#include "ColumnBlock.h"

#include "AMXColumns.h"
#include "ColumnVectors.h"
#include "VectorAccess.h"
#include "WeightLayout.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

//===----------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------===//

/// The map of the member with place 0.
static AffineMap getFirstMap(const Matmul::Term &term) {
  AffineMap map = term.getWeightMap();
  SmallVector<AffineExpr> results(map.getResults());
  results.back() = results.back() - getColumnPlace(map);
  return simplifyAffineMap(
      AffineMap::get(map.getNumDims(), 0, results, map.getContext()));
}

static bool lieInTurns(const Matmul::Term &x, const Matmul::Term &y) {
  return !x.prologue && !y.prologue && x.lhs == y.lhs && x.lhsMap == y.lhsMap &&
         x.getWeight() == y.getWeight() &&
         getColumnPlace(x.getWeightMap()) != getColumnPlace(y.getWeightMap()) &&
         getFirstMap(x) == getFirstMap(y);
}

SmallVector<ColumnGroup>
mlir::moe::findColumnGroups(ArrayRef<Matmul::Product> products) {
  SmallVector<ColumnGroup> groups;
  for (auto [p, product] : llvm::enumerate(products))
    for (const Matmul::Term &term : product) {
      if (!runsAlongColumns(term))
        continue;
      AffineMap map = term.getWeightMap();
      ColumnGroup::Member member = {static_cast<unsigned>(p),
                                    getColumnPlace(map)};
      // Sums of several terms are added one after the other.
      bool isAlone = product.size() == 1;
      auto joins = [&](const ColumnGroup &group) {
        return isAlone && group.members.size() == 1 &&
               products[group.members[0].product].size() == 1 &&
               lieInTurns(*group.term, term);
      };
      if (auto *group = llvm::find_if(groups, joins); group != groups.end())
        group->members.push_back(member);
      else
        groups.push_back({&term, {member}, *getColumnStride(map)});
    }
  return groups;
}

MemRefType mlir::moe::getColumnPanelType(CPUMatmulAttr config,
                                         ArrayRef<ColumnGroup> groups) {
  int64_t steps = 0, vectors = 0;
  VectorType operand;
  for (const ColumnGroup &group : groups) {
    ColumnShape shape(config, group);
    operand = shape.getOperandType();
    int64_t length = getPartLength(config, group.term->getLength());
    if (config.usesAMX())
      length = std::min(length, kAMXPanelLength);
    steps = std::max(steps, length / shape.getStep());
    vectors =
        std::max(vectors, shape.getLoadsOfTile() * shape.getVectorsOfLoad());
  }
  if (!operand)
    return MemRefType();
  return MemRefType::get({steps, vectors, operand.getNumElements()},
                         operand.getElementType());
}

//===----------------------------------------------------------------------===//
// Sums
//===----------------------------------------------------------------------===//

namespace {
class ColumnSums : MatmulBuilder {
public:
  ColumnSums(const MatmulBuilder &matmul, const MatmulBlock &block,
             const BlockRows &rows, const ColumnGroup &group,
             const ColumnSum &sum)
      : MatmulBuilder(matmul), block(block), rows(rows), group(group), sum(sum),
        shape(config, group) {}

  void build(OpBuilder &b) {
    int64_t tail = sum.size % shape.getStep();
    int64_t end = sum.start + sum.size - tail;
    Value length = partLength(b);
    Value wholeEnd = index(b, end);
    loop(b, index(b, sum.start), wholeEnd, length,
         [&](OpBuilder &b, Value start) {
           Value count = min(b, length, sub(b, wholeEnd, start));
           Value steps =
               arith::DivUIOp::create(b, loc, count, index(b, shape.getStep()));
           buildPart(b, {start, steps, add(b, start, count), false});
         });
    if (tail)
      buildPart(b, {wholeEnd, zero, wholeEnd, true});
  }

private:
  const MatmulBlock &block;
  const BlockRows &rows;
  const ColumnGroup &group;
  const ColumnSum &sum;
  ColumnShape shape;

  /// Half a part where rows are few and memory sets the pace: then the panel,
  /// the weights of the next tile and the rows are in the first cache together.
  Value partLength(OpBuilder &b) {
    constexpr int64_t kFewTiles = 3;
    int64_t whole = getPartLength(config, sum.size);
    int64_t half = llvm::alignTo(llvm::divideCeil(whole, 2), shape.getStep());
    Value areFew = isAtMost(b, rows.count, kFewTiles * config.getTileRows());
    return arith::SelectOp::create(b, loc, areFew, index(b, half),
                                   index(b, whole));
  }

  /// Steps of k from `start` on, the k after them, and whether one element
  /// follows.
  struct Part {
    Value start, steps, end;
    bool tail;
  };

  void buildPart(OpBuilder &b, const Part &part) {
    forTiles(b, block.begin, block.end, shape.getColumnsOfTile(),
             [&](OpBuilder &b, Value column, int64_t width) {
               buildRowTiles(b, part, column, width);
             });
  }

  /// How much of the next tile's weights a tile of rows asks for: they take
  /// turns.
  enum class Share { All, Half, One };
  using Source = ColumnTile::Source;

  /// `height` rows from `place` on.
  struct Tile {
    Value place;
    int64_t height;
    Source source;
    Share share;
    /// Whether there is room for them in the first cache beside a panel.
    bool toFirstCache;
  };

  void buildRowTiles(OpBuilder &b, const Part &part, Value column,
                     int64_t width) {
    int64_t height = config.getTileRows();
    auto build = [&](OpBuilder &b, const Tile &tile) {
      buildTile(b, part, column, width, tile);
    };
    Value rest = arith::RemUIOp::create(b, loc, rows.count, index(b, height));
    Value whole = sub(b, rows.count, rest);
    either(b, isAtMost(b, rows.count, height), [&](OpBuilder &b, bool isLone) {
      if (isLone) {
        switchRows(b, rows.count, 1, height, [&](OpBuilder &b, int64_t height) {
          build(b, {zero, height, Source::Weights, Share::All, true});
        });
        return;
      }
      int64_t few = (config.getTileColumns() - 1) * height;
      either(b, isAtMost(b, whole, few), [&](OpBuilder &b, bool areFew) {
        Share share = areFew ? Share::Half : Share::One;
        build(b, {zero, height, Source::WeightsToPanel, share, areFew});
        loop(b, index(b, height), whole, index(b, height),
             [&](OpBuilder &b, Value place) {
               build(b, {place, height, Source::Panel, share, areFew});
             });
      });
      switchRows(b, rest, 0, height - 1, [&](OpBuilder &b, int64_t height) {
        build(b, {whole, height, Source::Panel, Share::Half, false});
      });
    });
  }

  void buildTile(OpBuilder &b, const Part &part, Value column, int64_t width,
                 const Tile &tile) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = rows.expert;
    dims[Matmul::kColumn] = column;
    TileRows tileRows =
        tileRowsOf(b, *group.term, rows.first, tile.place, tile.height);
    ColumnTile columns = {config,    group,         sum.lhs,
                          dims,      tileRows.rows, tileRows.tokens,
                          width,     part.start,    part.steps,
                          part.tail, tile.source,   block.columnPanel,
                          {}};
    if (!part.tail)
      setPrefetch(b, part, column, tile, columns);
    Value local = sub(b, column, block.begin);
    SmallVector<Value> sums;
    forSums(b, tile, width, local, [&](ValueRange at) {
      sums.push_back(loadVector(b, loc, block.scratch, at, config.getLanes(),
                                /*mask=*/Value()));
    });
    sums = buildColumnTile(b, loc, columns, sums);
    size_t i = 0;
    forSums(b, tile, width, local, [&](ValueRange at) {
      vector::StoreOp::create(b, loc, sums[i++], block.scratch, at);
    });
  }

  /// The places of a tile's sums in the scratch, in their order. Lanes beyond
  /// the last column are there.
  void forSums(OpBuilder &b, const Tile &tile, int64_t width, Value local,
               function_ref<void(ValueRange)> body) {
    int64_t numVectors = llvm::divideCeil(width, shape.getColumnsOfLoad()) *
                         shape.getVectorsOfMember();
    for (int64_t i = 0; i < tile.height; ++i)
      for (const ColumnGroup::Member &member : group.members)
        for (int64_t v = 0; v < numVectors; ++v)
          body({index(b, member.product), add(b, tile.place, index(b, i)),
                add(b, local, index(b, v * config.getLanes()))});
  }

  /// The next tile is beside this one, or at the block's first columns: in the
  /// next part of k or, after the last one, at the next expert.
  void setPrefetch(OpBuilder &b, const Part &part, Value column,
                   const Tile &tile, ColumnTile &columns) {
    int64_t loads = shape.getLoadsOfTile(), step = shape.getStep();
    Value next = add(b, column, index(b, shape.getColumnsOfTile()));
    Value isInside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                           next, block.end);
    auto &prefetch = columns.prefetch;
    prefetch.column =
        arith::SelectOp::create(b, loc, isInside, next, block.begin);
    Value nextSum = part.end, nextExpert = rows.expert;
    if (rows.nextExpert) {
      Value hasMore = arith::CmpIOp::create(
          b, loc, arith::CmpIPredicate::ult, part.end,
          index(b, sum.start + sum.size - sum.size % step));
      nextSum = arith::SelectOp::create(b, loc, hasMore, part.end,
                                        index(b, sum.start));
      nextExpert = arith::SelectOp::create(b, loc, hasMore, rows.expert,
                                           rows.nextExpert);
    }
    prefetch.sum =
        arith::SelectOp::create(b, loc, isInside, part.start, nextSum);
    prefetch.expert =
        arith::SelectOp::create(b, loc, isInside, rows.expert, nextExpert);
    prefetch.loads = loads;
    prefetch.elements = step;
    prefetch.toFirstCache = tile.toFirstCache;
    if (tile.share == Share::All)
      return;
    Value turn = arith::DivUIOp::create(b, loc, tile.place,
                                        index(b, config.getTileRows()));
    auto takeTurns = [&](Value &from, int64_t count, int64_t distance) {
      Value mine = arith::RemUIOp::create(b, loc, turn, index(b, count));
      from = add(b, from, mul(b, mine, index(b, distance)));
    };
    if (tile.share == Share::One) {
      takeTurns(prefetch.sum, step, 1);
      turn = arith::DivUIOp::create(b, loc, turn, index(b, step));
      takeTurns(prefetch.column, loads, shape.getColumnsOfLoad());
      prefetch.loads = prefetch.elements = 1;
    } else if (step > 1) {
      takeTurns(prefetch.sum, step, 1);
      prefetch.elements = 1;
    } else {
      prefetch.loads = llvm::divideCeil(loads, 2);
      takeTurns(prefetch.column, 2, prefetch.loads * shape.getColumnsOfLoad());
    }
  }
};
} // namespace

void mlir::moe::buildColumnSums(OpBuilder &builder, const MatmulBuilder &matmul,
                                const MatmulBlock &block, const BlockRows &rows,
                                const ColumnGroup &group,
                                const ColumnSum &sum) {
  ColumnSums(matmul, block, rows, group, sum).build(builder);
}
