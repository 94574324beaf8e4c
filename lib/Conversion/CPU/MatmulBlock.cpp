//===- MatmulBlock.cpp - The sums of a block of columns -------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parts of k and tiles; what happens in registers is in MicroKernel.cpp.
//
// Columns are the outer loop and rows the inner one: the weights of a tile (6 ×
// 2048 bf16 = 24 KB) stay in the first cache while the rows of the block stream
// by from the second, and every weight is read once from memory.
//
//===----------------------------------------------------------------------===//

#include "MatmulBlock.h"

#include "AMXBlock.h"
#include "ColumnBlock.h"
#include "MicroKernel.h"
#include "PackedBlock.h"
#include "RowPanel.h"
#include "VectorAccess.h"
#include "WeightLayout.h"
#include "WeightPanel.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

int64_t mlir::moe::getPartLength(CPUMatmulAttr config, int64_t length) {
  int64_t numParts = llvm::divideCeil(length, config.getBlockSum());
  return llvm::alignTo(llvm::divideCeil(length, numParts), config.getStep());
}

std::vector<SumPart>
mlir::moe::splitSums(ArrayRef<Matmul::Product> products,
                     function_ref<int64_t(const Matmul::Term &)> partLength) {
  std::vector<SumPart> parts;
  for (auto [p, product] : llvm::enumerate(products)) {
    bool isFirst = true;
    for (const Matmul::Term &term : product) {
      int64_t length = term.getLength(), part = partLength(term);
      for (int64_t start = 0; start < length; start += part) {
        parts.push_back({term, static_cast<unsigned>(p), start,
                         std::min(part, length - start),
                         /*accumulate=*/!isFirst});
        isFirst = false;
      }
    }
  }
  return parts;
}

int64_t mlir::moe::getStretch(int64_t part, int64_t bytes) {
  constexpr int64_t kRowBytes = 4096;
  return std::max<int64_t>(kRowBytes / bytes / part, 1) * part;
}

int64_t mlir::moe::getRowPartLength(CPUMatmulAttr config,
                                    const Matmul::Term &term) {
  int64_t length = term.getLength(), part = getPartLength(config, length);
  if (runsAlongSum(term))
    return part;
  int64_t stretch = kColumnParts * part;
  if (isPacked(term)) {
    Type type = cast<MemRefType>(term.getWeight().getType()).getElementType();
    stretch =
        getStretch(part, llvm::divideCeil(type.getIntOrFloatBitWidth(), 8));
  }
  return std::min(stretch, length);
}

static Value allocaOnStack(OpBuilder &b, Location loc, MemRefType type) {
  return memref::AllocaOp::create(b, loc, type, b.getI64IntegerAttr(64));
}

namespace {
class BlockAllocation : MatmulBuilder {
public:
  explicit BlockAllocation(const MatmulBuilder &matmul)
      : MatmulBuilder(matmul) {}

  MatmulBlock build(OpBuilder &b, Value block) {
    Value width = index(b, config.getBlockColumns());
    Value begin = mul(b, block, width);
    Value end = min(b, add(b, begin, width), index(b, numColumns));
    auto type =
        MemRefType::get({static_cast<int64_t>(products.size()),
                         config.getBlockRows(), config.getBlockColumns()},
                        b.getF32Type());
    MatmulBlock at = {begin,   end,     allocaOnStack(b, loc, type),
                      Value(), Value(), Panels()};
    if (config.usesAMX())
      at.amx = buildAMXBuffers(b, *this);
    else
      at.rowPanels = buildRowPanels(b);
    at.weightPanel = buildWeightPanel(b);
    if (MemRefType panel =
            getColumnPanelType(config, findColumnGroups(products)))
      at.columnPanel = allocaOnStack(b, loc, panel);
    return at;
  }

private:
  /// Of block_rows × the longest part of k, for each element type that
  /// prologues yield.
  Panels buildRowPanels(OpBuilder &b) {
    llvm::SmallDenseMap<Type, int64_t> lengths;
    for (const Matmul::Product &product : products)
      for (const Matmul::Term &term : product)
        if (term.prologue) {
          int64_t &length = lengths[getRowType(term)];
          length = std::max(length, getRowPartLength(config, term));
        }
    Panels panels;
    for (auto [type, length] : lengths)
      panels[type] = allocaOnStack(
          b, loc,
          MemRefType::get({config.getBlockRows(),
                           getPanelLength(type, length, config.getLanes())},
                          type));
    return panels;
  }

  /// Of tile_columns × the longest part of k that is decoded.
  Value buildWeightPanel(OpBuilder &b) {
    int64_t length = 0;
    for (const Matmul::Product &product : products)
      for (const Matmul::Term &term : product)
        if (term.decode)
          length = std::max(length, getPartLength(config, term.getLength()));
    if (length == 0)
      return Value();
    Type type = getWeightPanelType(config);
    return allocaOnStack(
        b, loc,
        MemRefType::get({config.getTileColumns(),
                         getPanelLength(type, length, config.getLanes())},
                        type));
  }
};

class BlockSums : MatmulBuilder {
public:
  BlockSums(const MatmulBuilder &matmul, const MatmulBlock &block,
            const BlockRows &rows)
      : MatmulBuilder(matmul), block(block), rows(rows) {}

  void build(OpBuilder &b) {
    if (canTakeTurns()) {
      buildInTurns(b);
      return;
    }
    groups = findColumnGroups(products);
    auto partLength = [&](const Matmul::Term &term) {
      // Columns cut k by themselves, but for the rows of a panel.
      return runsAlongSum(term) || term.prologue
                 ? getRowPartLength(config, term)
                 : term.getLength();
    };
    parts = splitSums(products, partLength);
    for (const Part &part : parts)
      buildPart(b, part);
  }

private:
  const MatmulBlock &block;
  const BlockRows &rows;
  SmallVector<ColumnGroup> groups;
  std::vector<SumPart> parts;

  using Part = SumPart;

  /// Whether the tiles of all products (gate and up) are alike.
  bool canTakeTurns() {
    return llvm::all_of(products, [&](const Matmul::Product &product) {
      return product.size() == 1 && runsAlongSum(product[0]) &&
             !product[0].prologue &&
             product[0].getLength() == products[0][0].getLength();
    });
  }

  /// A tile of each product in turn: each asks for the next one's weights, so
  /// that a task waits for memory at its first tile only.
  void buildInTurns(OpBuilder &b) {
    int64_t length = products[0][0].getLength();
    int64_t size = getPartLength(config, length);
    for (int64_t start = 0; start < length; start += size) {
      SmallVector<Part> parts;
      for (auto [p, product] : llvm::enumerate(products))
        parts.push_back({product[0], static_cast<unsigned>(p), start,
                         std::min(size, length - start),
                         /*accumulate=*/start != 0});
      buildColumns(b, parts);
    }
  }

  void buildPart(OpBuilder &b, const Part &part) {
    if (part.term.prologue)
      computeRows(b, part);
    if (runsAlongSum(part.term))
      buildColumns(b, part);
    else if (isPacked(part.term))
      addPanels(b, part);
    else
      addColumns(b, part);
  }

  void addPanels(OpBuilder &b, const Part &part) {
    const Part *next = &part == &parts.back() ? nullptr : &part + 1;
    buildPackedSums(b, *this, block, rows,
                    {part, lhsOf(b, part), next, parts.front()});
  }

  /// Tiles of columns, of each of `parts` in turn.
  void buildColumns(OpBuilder &b, ArrayRef<Part> parts) {
    int64_t wide = config.getTileColumns(), narrow = getNarrowWidth();
    int64_t few = kFewTiles * config.getTileRows();
    Value wholeEnd = endOfWholeTiles(b, block.end, wide);
    auto wholeTiles = [&](OpBuilder &b, int64_t width, int64_t mostRows) {
      loop(b, block.begin, wholeEnd, index(b, width),
           [&](OpBuilder &b, Value column) {
             takeTurns(b, parts, {column, width, mostRows});
           });
    };
    if (narrow == wide) {
      wholeTiles(b, wide, config.getBlockRows());
    } else {
      either(b, isAtMost(b, rows.count, few), [&](OpBuilder &b, bool areFew) {
        wholeTiles(b, areFew ? narrow : wide,
                   areFew ? few : config.getBlockRows());
      });
    }
    ifRestOfTiles(b, block.end, wide,
                  [&](OpBuilder &b, Value column, int64_t width) {
                    takeTurns(b, parts, {column, width, few});
                  });
  }

  /// Tiles of rows that count as few.
  static constexpr int64_t kFewTiles = 2;

  /// Where an expert has few rows, tiles are half as wide: then the weights of
  /// a tile, the next one's and the rows, which all tiles read, are in the
  /// first cache together, and the queue of misses is free for what comes from
  /// memory. Sums of tiles that are narrower yet would wait for each other.
  int64_t getNarrowWidth() {
    constexpr int64_t kLeastHalved = 6;
    int64_t wide = config.getTileColumns();
    return wide >= kLeastHalved && wide % 2 == 0 ? wide / 2 : wide;
  }

  /// `width` columns from `first` on, for `mostRows` rows or less.
  struct Columns {
    Value first;
    int64_t width, mostRows;
  };

  void takeTurns(OpBuilder &b, ArrayRef<Part> parts, const Columns &columns) {
    for (size_t i = 0; i < parts.size(); ++i)
      buildRowTiles(b, parts[i], columns, nextOf(b, parts, i, columns));
  }

  /// What comes after a tile: the columns of a term at an expert, `shift`
  /// elements of k further than this tile's.
  struct Next {
    const Matmul::Term &term;
    Value expert, column, shift;
  };

  /// After the last columns of a block come its first ones, in the next part of
  /// k or at the next expert.
  Next nextOf(OpBuilder &b, ArrayRef<Part> parts, size_t i,
              const Columns &columns) {
    if (i + 1 < parts.size())
      return {parts[i + 1].term, rows.expert, columns.first, Value()};
    const Part &first = parts[0];
    Next next = {first.term, rows.expert,
                 add(b, columns.first, index(b, columns.width)), Value()};
    Value isInside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                           next.column, block.end);
    if (first.isLast() && !rows.nextExpert)
      return next;
    auto insideOr = [&](Value inside, Value otherwise) {
      return arith::SelectOp::create(b, loc, isInside, inside, otherwise);
    };
    next.column = insideOr(next.column, block.begin);
    if (first.isLast())
      next.expert = insideOr(rows.expert, rows.nextExpert);
    if (int64_t shift = first.getShiftToNext())
      next.shift = insideOr(zero, index(b, shift));
    return next;
  }

  Value rowPanelOf(const Part &part) {
    return block.rowPanels.lookup(getRowType(part.term));
  }

  /// The rows of a block as their prologue computes them.
  void computeRows(OpBuilder &b, const Part &part) {
    loop(b, zero, rows.count, one, [&](OpBuilder &b, Value place) {
      Value row = add(b, rows.first, place);
      TokenOfRow of = tokenOf(b, row);
      MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
      dims[Matmul::kExpert] = rows.expert;
      dims[Matmul::kRow] = row;
      dims[Matmul::kToken] = of.token;
      dims[Matmul::kChoice] = of.choice;
      buildPanelRow(b, loc, part.term, dims, part.start, part.size,
                    config.getLanes(), rowPanelOf(part), place);
    });
  }

  /// Of the group of a term, when it comes to its first member.
  void addColumns(OpBuilder &b, const Part &part) {
    const auto *group = llvm::find_if(groups, [&](const ColumnGroup &group) {
      return group.term == &part.term;
    });
    if (group == groups.end())
      return;
    if (!part.accumulate)
      for (const ColumnGroup::Member &member : group->members)
        clearScratch(b, member.product);
    ColumnSum sum = {part.start, part.size, lhsOf(b, part)};
    buildColumnSums(b, *this, block, rows, *group, sum);
  }

  void clearScratch(OpBuilder &b, unsigned product) {
    auto type = VectorType::get({config.getLanes()}, b.getF32Type());
    Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    Value width = sub(b, block.end, block.begin);
    loop(b, zero, rows.count, one, [&](OpBuilder &b, Value place) {
      loop(b, zero, width, index(b, config.getLanes()),
           [&](OpBuilder &b, Value column) {
             vector::StoreOp::create(
                 b, loc, none, block.scratch,
                 ValueRange{index(b, product), place, column});
           });
    });
  }

  /// All rows of a block for one tile of columns: whole tiles, then a switch
  /// over the number of rows of the last one.
  ///
  /// Each tile asks for columns of the next tile's weights: the last one, which
  /// may be the only one, for all; one before it for half of them where rows
  /// are few, for one where they are many, by turns. So memory works as long as
  /// the tiles compute. To ask for all at each step takes the loads' turns
  /// (measured: 15 % at 64 rows and more), for all at once fills the queue of
  /// misses, and rows from the second cache then wait behind it.
  ///
  /// Where weights are decoded, that is what asks for the next ones.
  void buildRowTiles(OpBuilder &b, const Part &part, const Columns &columns,
                     const Next &next) {
    bool isDecoded = part.term.decode;
    if (isDecoded)
      decodeWeights(b, part, columns, next);
    int64_t height = config.getTileRows(), width = columns.width;
    auto build = [&](OpBuilder &b, Value place, int64_t numRows,
                     int64_t numPrefetched) {
      buildTile(b, part, {place, columns.first, numRows, width, numPrefetched},
                next);
    };
    Value last = arith::RemUIOp::create(b, loc, sub(b, rows.count, one),
                                        index(b, height));
    Value whole = sub(b, sub(b, rows.count, one), last);
    auto wholeTiles = [&](OpBuilder &b, int64_t numPrefetched) {
      loop(b, zero, whole, index(b, height), [&](OpBuilder &b, Value place) {
        build(b, place, height, numPrefetched);
      });
    };
    int64_t few = width * height;
    if (isDecoded) {
      wholeTiles(b, 0);
    } else if (columns.mostRows <= few) {
      wholeTiles(b, llvm::divideCeil(width, 2));
    } else {
      Value areFew = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                           whole, index(b, few));
      either(b, areFew, [&](OpBuilder &b, bool areFew) {
        wholeTiles(b, areFew ? llvm::divideCeil(width, 2) : 1);
      });
    }
    switchRows(b, add(b, last, one), 1, height,
               [&](OpBuilder &b, int64_t numRows) {
                 build(b, whole, numRows, isDecoded ? 0 : width);
               });
  }

  /// The weights of a tile, to the block's panel.
  void decodeWeights(OpBuilder &b, const Part &part, const Columns &columns,
                     const Next &next) {
    loop(b, zero, index(b, columns.width), one, [&](OpBuilder &b, Value place) {
      MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
      dims[Matmul::kExpert] = rows.expert;
      dims[Matmul::kColumn] = add(b, columns.first, place);
      auto prefetch = [&](OpBuilder &b, Value k) {
        MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
        dims[Matmul::kExpert] = next.expert;
        dims[Matmul::kColumn] = add(b, next.column, place);
        dims[Matmul::kSum] = next.shift ? add(b, k, next.shift) : k;
        buildPrefetch(b, loc, next.term.getWeight(),
                      buildIndices(b, loc, next.term.getWeightMap(), dims),
                      /*toFirstCache=*/true);
      };
      buildWeightPanelRow(b, loc,
                          {part.term, config, dims, part.start, part.size,
                           block.weightPanel, place},
                          prefetch);
    });
  }

  /// `height` rows from `place` on and `width` columns from `column` on.
  struct Tile {
    Value place, column;
    int64_t height, width, numPrefetched;
  };

  /// The columns of the next tile that a tile asks for: the tiles of rows take
  /// turns.
  Value prefetchedColumn(OpBuilder &b, const Tile &tile, Value next) {
    if (tile.numPrefetched == 0)
      return next;
    Value turn = arith::DivUIOp::create(b, loc, tile.place,
                                        index(b, config.getTileRows()));
    Value numTurns = index(b, llvm::divideCeil(tile.width, tile.numPrefetched));
    Value offset = mul(b, arith::RemUIOp::create(b, loc, turn, numTurns),
                       index(b, tile.numPrefetched));
    return add(b, next, offset);
  }

  void buildTile(OpBuilder &b, const Part &part, const Tile &position,
                 const Next &next) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = rows.expert;
    dims[Matmul::kColumn] = position.column;
    Value local = sub(b, position.column, block.begin);
    TileSums::Operand weight = {part.term.getWeight(),
                                part.term.getWeightMap()};
    if (part.term.decode) {
      weight = decodedWeights(b, part);
      dims[Matmul::kColumn] = b.getIndexAttr(0);
    }
    TileRows tileRows =
        tileRowsOf(b, part.term, rows.first, position.place, position.height);
    int64_t tail = part.size % config.getStep();
    TileSums tile = {lhsOf(b, part),
                     weight,
                     config,
                     dims,
                     tileRows.rows,
                     tileRows.tokens,
                     position.width,
                     index(b, part.start),
                     index(b, part.start + part.size - tail),
                     tail,
                     {{next.term.getWeight(), next.term.getWeightMap()},
                      next.expert,
                      prefetchedColumn(b, position, next.column),
                      next.shift,
                      position.numPrefetched},
                     laterRow(b, part, position)};
    for (auto [i, sums] : llvm::enumerate(buildTileSums(b, loc, tile)))
      storeSums(
          b, sums, position.width, part,
          {index(b, part.product), add(b, position.place, index(b, i)), local});
  }

  /// A row of the next part of k or, after the last one, of the next block of
  /// rows, which may be the next expert's. The tiles of columns take turns: the
  /// first few ask for all rows. The rows of a combining matmul come from
  /// memory once for each block of columns, and the first tile alone would wait
  /// for them (D, 96 columns to a block: a tenth of the layer at 4096 tokens).
  decltype(TileSums::later) laterRow(OpBuilder &b, const Part &part,
                                     const Tile &tile) {
    bool areMany = 2 * tile.numPrefetched < tile.width;
    if (!areMany || !op.isCombining() || part.term.isGathered() ||
        part.term.prologue)
      return {};
    Value turn = arith::RemUIOp::create(
        b, loc,
        arith::DivUIOp::create(b, loc, sub(b, tile.column, block.begin),
                               index(b, tile.width)),
        index(b, tile.height));
    Value row = add(b, rows.first, add(b, tile.place, turn));
    if (part.isLast())
      row = add(b, row, rows.count);
    int64_t shift = part.getShiftToNext();
    return {row, shift ? index(b, shift) : Value()};
  }

  /// The rows, or a panel [row, k − the part's start].
  TileSums::Operand lhsOf(OpBuilder &b, const Part &part) {
    if (!part.term.prologue)
      return {part.term.lhs, part.term.lhsMap};
    AffineExpr row = b.getAffineDimExpr(Matmul::kRow);
    AffineExpr sum = b.getAffineDimExpr(Matmul::kSum);
    return {rowPanelOf(part),
            AffineMap::get(Matmul::kNumDims, 0, {row, sum - part.start},
                           b.getContext())};
  }

  /// The panel [column − the tile's first, k − the part's start].
  TileSums::Operand decodedWeights(OpBuilder &b, const Part &part) {
    AffineExpr column = b.getAffineDimExpr(Matmul::kColumn);
    AffineExpr sum = b.getAffineDimExpr(Matmul::kSum);
    return {block.weightPanel,
            AffineMap::get(Matmul::kNumDims, 0, {column, sum - part.start},
                           b.getContext())};
  }

  /// Stores or adds the first `width` lanes of `sums`.
  void storeSums(OpBuilder &b, Value sums, int64_t width, const Part &part,
                 ValueRange at) {
    int64_t lanes = cast<VectorType>(sums.getType()).getNumElements();
    Value mask = buildPrefixMask(b, loc, lanes, width);
    if (part.accumulate)
      sums = arith::AddFOp::create(
          b, loc, loadVector(b, loc, block.scratch, at, lanes, mask), sums);
    storeVector(b, loc, sums, block.scratch, at, mask);
  }
};
} // namespace

MatmulBlock mlir::moe::buildBlock(OpBuilder &builder,
                                  const MatmulBuilder &matmul, Value block) {
  return BlockAllocation(matmul).build(builder, block);
}

void mlir::moe::buildBlockSums(OpBuilder &builder, const MatmulBuilder &matmul,
                               const MatmulBlock &block,
                               const BlockRows &rows) {
  if (block.amx.panel)
    return buildAMXBlockSums(builder, matmul, block, rows);
  BlockSums(matmul, block, rows).build(builder);
}
