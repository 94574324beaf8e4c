//===- AMXBlock.cpp - The sums of a block of columns by AMX -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// TDPBF16PS multiplies 16 rows of 32 elements of k by 16 rows of pairs of k, a
// pair for each of 16 columns. Weights with k last are the first operand as
// they are, 16 columns n a tile: none is packed, and few tokens read them at
// the rate of memory. Tokens, of which there are fewer, are the second: a block
// of them is gathered and turned into a panel once for all columns of the
// block. A result is n × tokens, and is turned back when it goes to the scratch
// block. Weights with n last change places with the tokens: AMXColumns.cpp. So
// do packed ones, which nothing turns: AMXPanels.cpp.
//
// All tiles have one shape, as the configuration of tiles belongs to a function
// and a new one clears them: what is narrower, at the end of k and of the
// columns, is copied to the stack and filled up. Tokens beyond the last are
// copies of it. So a sum adds up in one order, whatever else is in the block.
//
//===----------------------------------------------------------------------===//

#include "AMXBlock.h"

#include "AMXBuilder.h"
#include "AMXColumns.h"
#include "AMXPanels.h"
#include "BlockShuffles.h"
#include "ColumnBlock.h"
#include "RowPanel.h"
#include "VectorAccess.h"
#include "WeightLayout.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// By how much the index that `expr` computes grows from a column to the next;
/// none if that differs.
static std::optional<int64_t> getGrowth(AffineExpr expr, unsigned numDims) {
  AffineExpr column = getAffineDimExpr(Matmul::kColumn, expr.getContext());
  AffineExpr growth = simplifyAffineExpr(
      expr.replace(column, column + 1) - expr, numDims, /*numSymbols=*/0);
  auto constant = dyn_cast<AffineConstantExpr>(growth);
  return constant ? std::optional(constant.getValue()) : std::nullopt;
}

static std::string findAMXObstacle(const Matmul::Term &term) {
  if (term.decode)
    return "a weight is decoded";
  if (isPacked(term) || runsAlongColumns(term))
    return "";
  if (!runsAlongSum(term))
    return "a weight has neither k nor n as its last index; store it as E×N×K "
           "or E×K×N";
  AffineMap map = term.getWeightMap();
  auto isLinear = [&](AffineExpr expr) {
    return getGrowth(expr, map.getNumDims()).has_value();
  };
  if (!llvm::all_of(map.getResults(), isLinear))
    return "the columns of a weight are not at one distance";
  return "";
}

std::string mlir::moe::findAMXObstacle(Matmul op) {
  if (!multipliesBf16(op))
    return "not all rows and weights are bf16";
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product)
      if (std::string obstacle = ::findAMXObstacle(term); !obstacle.empty())
        return obstacle;
  return "";
}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

/// Elements of k that the panel of rows has.
static int64_t getAMXPartLength(CPUMatmulAttr config,
                                const Matmul::Term &term) {
  return isPacked(term) ? getRowPartLength(config, term)
                        : getPartLength(config, term.getLength());
}

namespace {
class BufferBuilder : MatmulBuilder {
public:
  explicit BufferBuilder(const MatmulBuilder &matmul) : MatmulBuilder(matmul) {}

  AMXBuffers build(OpBuilder &b) {
    int64_t length = 0;
    for (const Matmul::Product &product : products)
      for (const Matmul::Term &term : product)
        length = std::max(length, getAMXPartLength(config, term));
    // The last step of k is filled up.
    length = llvm::alignTo(length, config.getStep());
    Type bf16 = b.getBF16Type();
    constexpr int64_t kPairs = 2 * kAMXTile;
    return {allocate(b, {config.getBlockRows() / kAMXTile, length / 2, kPairs},
                     bf16),
            allocate(b, {2, kAMXTile, kPairs}, bf16),
            allocate(b, {kAMXTile, kAMXTile}, b.getF32Type())};
  }

private:
  Value allocate(OpBuilder &b, ArrayRef<int64_t> shape, Type type) {
    return memref::AllocaOp::create(b, loc, MemRefType::get(shape, type),
                                    b.getI64IntegerAttr(64));
  }
};
} // namespace

AMXBuffers mlir::moe::buildAMXBuffers(OpBuilder &builder,
                                      const MatmulBuilder &matmul) {
  return BufferBuilder(matmul).build(builder);
}

//===----------------------------------------------------------------------===//
// Sums
//===----------------------------------------------------------------------===//

namespace {
class AMXSums : AMXBuilder {
public:
  AMXSums(const MatmulBuilder &matmul, const MatmulBlock &block,
          const BlockRows &rows)
      : AMXBuilder(matmul, block, rows), groups(findColumnGroups(products)) {}

  void build(OpBuilder &b);

private:
  using Part = SumPart;

  /// `numColumnTiles` × `numRowTiles` results from `column` and from tile
  /// `rowTile` of the rows on. With `numColumns` ≠ 0, so many of the one tile's
  /// columns are there.
  struct Tiles {
    Value column, rowTile;
    int64_t numColumnTiles, numRowTiles, numColumns;
  };

  /// A part in the order of the code, and whether the panel gets its rows.
  struct OrderedPart {
    const Part *part;
    bool fillsPanel;
  };

  SmallVector<OrderedPart> findOrder(ArrayRef<Part> parts);
  void fillPanel(OpBuilder &b, const Part &part);
  void fillBlock(OpBuilder &b, const Part &part, Value rowTile, Value k,
                 int64_t length, ArrayRef<MatmulIndices> theRows);
  void buildPart(OpBuilder &b, const Part &part, const Part *next,
                 const Part &first);
  void buildColumns(OpBuilder &b, const Part &part, Value column,
                    int64_t numColumnTiles, int64_t numColumns);
  void buildTiles(OpBuilder &b, const Part &part, const Tiles &tiles);
  Carried addStep(OpBuilder &b, const Part &part, const Tiles &tiles, Value k,
                  int64_t length, ValueRange sums);
  Value loadWeights(OpBuilder &b, const Part &part, const Tiles &tiles,
                    int64_t i, Value k, int64_t length);
  void storeSums(OpBuilder &b, const Part &part, Value tile, Value column,
                 Value rowTile);

  MatmulIndices weightIndices(OpBuilder &b, const Part &part, Value column,
                              Value k) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = rows.expert;
    dims[Matmul::kColumn] = column;
    dims[Matmul::kSum] = add(b, k, index(b, part.start));
    return dims;
  }
  Value columnDistance(OpBuilder &b, const Part &part);

  /// `vector` with 0 where `mask` (null for none) leaves elements out.
  Value clearBeyond(OpBuilder &b, Value vector, Value mask) {
    if (!mask)
      return vector;
    Value none =
        arith::ConstantOp::create(b, loc, b.getZeroAttr(vector.getType()));
    return arith::SelectOp::create(b, loc, mask, vector, none);
  }

  /// Of weights with n last.
  SmallVector<ColumnGroup> groups;
};
} // namespace

static bool haveSameRows(const SumPart &x, const SumPart &y) {
  if (x.term.prologue || y.term.prologue)
    return &x == &y;
  return x.term.lhs == y.term.lhs && x.term.lhsMap == y.term.lhsMap &&
         runsAlongSum(x.term) == runsAlongSum(y.term) && x.start == y.start &&
         x.size == y.size;
}

void AMXSums::build(OpBuilder &b) {
  std::vector<Part> parts = splitSums(products, [&](const Matmul::Term &term) {
    return getAMXPartLength(config, term);
  });
  SmallVector<OrderedPart> order = findOrder(parts);
  for (auto [i, ordered] : llvm::enumerate(order)) {
    if (ordered.fillsPanel)
      fillPanel(b, *ordered.part);
    const Part *next = i + 1 < order.size() ? order[i + 1].part : nullptr;
    buildPart(b, *ordered.part, next, *order.front().part);
  }
}

/// Products of one term each, gate and up for instance, take their parts by
/// turns, so that those with the same rows have one panel.
SmallVector<AMXSums::OrderedPart> AMXSums::findOrder(ArrayRef<Part> parts) {
  SmallVector<OrderedPart> order;
  SmallVector<bool> isDone(parts.size(), false);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (isDone[i])
      continue;
    for (size_t j = i; j < parts.size(); ++j) {
      // A product's own parts stay in order: the first one overwrites.
      bool isNext = true;
      for (size_t before = 0; before < j; ++before)
        isNext &= isDone[before] || parts[before].product != parts[j].product;
      if (isDone[j] || !isNext || !haveSameRows(parts[j], parts[i]))
        continue;
      order.push_back({&parts[j], /*fillsPanel=*/i == j});
      isDone[j] = true;
    }
  }
  return order;
}

/// Of tile `rowTile` of the rows, `length` elements of k from start + `k` on:
///   panel[i, k / 2, 2·t + k % 2]  for weights with k last,
///   panel[i, k / 2 + t, k % 32]   for other ones.
void AMXSums::fillBlock(OpBuilder &b, const Part &part, Value rowTile, Value k,
                        int64_t length, ArrayRef<MatmulIndices> theRows) {
  Value mask = buildPrefixMask(b, loc, kStep, length);
  auto pairsType = VectorType::get({kStep}, b.getBF16Type());
  auto lanesType = VectorType::get({kAMXTile}, b.getF32Type());
  SmallVector<Value> vectors;
  for (MatmulIndices dims : theRows) {
    dims[Matmul::kSum] = add(b, k, index(b, part.start));
    if (part.term.prologue) {
      Value computed =
          buildPrologueVector(b, loc, part.term, dims, length, kStep);
      vectors.push_back(clearBeyond(b, computed, mask));
      continue;
    }
    vectors.push_back(loadVector(b, loc, part.term.lhs,
                                 buildIndices(b, loc, part.term.lhsMap, dims),
                                 kStep, mask));
  }
  if (runsAlongSum(part.term)) {
    for (Value &vector : vectors)
      vector = vector::BitCastOp::create(b, loc, lanesType, vector);
    vectors = transposeSquare(b, loc, vectors);
    for (Value &vector : vectors)
      vector = vector::BitCastOp::create(b, loc, pairsType, vector);
  }
  Value first = arith::DivUIOp::create(b, loc, k, index(b, 2));
  for (auto [i, vector] : llvm::enumerate(vectors))
    storeVector(b, loc, vector, block.amx.panel,
                ValueRange{rowTile, add(b, first, index(b, i)), zero}, Value());
}

/// All rows of the block but those that are read where they lie; the last one
/// again for those that are not there, 0 for k beyond the end.
void AMXSums::fillPanel(OpBuilder &b, const Part &part) {
  int64_t tail = part.size % kStep;
  Value firstWhole = firstPanelTile(b, part.term);
  Value first = tail ? zero : firstWhole;
  loop(b, first, numRowTiles(b), one, [&](OpBuilder &b, Value rowTile) {
    SmallVector<MatmulIndices> theRows;
    Value begin = mul(b, rowTile, index(b, kAMXTile));
    Value last = sub(b, rows.count, one);
    for (int64_t i = 0; i < kAMXTile; ++i) {
      Value row = add(b, rows.first, min(b, add(b, begin, index(b, i)), last));
      MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
      dims[Matmul::kExpert] = rows.expert;
      dims[Matmul::kRow] = row;
      if (part.term.isGathered() || part.term.prologue) {
        TokenOfRow of = tokenOf(b, row);
        dims[Matmul::kToken] = of.token;
        dims[Matmul::kChoice] = of.choice;
      }
      theRows.push_back(std::move(dims));
    }
    Value whole = index(b, part.size - tail);
    if (first != firstWhole) {
      Value isInPlace = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                              rowTile, firstWhole);
      whole = arith::SelectOp::create(b, loc, isInPlace, zero, whole);
    }
    loop(b, zero, whole, index(b, kStep), [&](OpBuilder &b, Value k) {
      fillBlock(b, part, rowTile, k, kStep, theRows);
    });
    if (tail)
      fillBlock(b, part, rowTile, index(b, part.size - tail), tail, theRows);
  });
}

/// Two tiles of columns at a time, then what the last block has left.
void AMXSums::buildPart(OpBuilder &b, const Part &part, const Part *next,
                        const Part &first) {
  if (isPacked(part.term))
    return buildAMXPanelPart(b, *this, block, rows, {part, {}, next, first});
  if (!runsAlongSum(part.term)) {
    // Of the group of a term, when it comes to its first member.
    for (const ColumnGroup &group : groups)
      if (group.term == &part.term)
        buildAMXColumnPart(b, *this, block, rows, group, part);
    return;
  }
  constexpr int64_t kWidth = 2 * kAMXTile;
  forTiles(b, block.begin, block.end, kWidth,
           [&](OpBuilder &b, Value column, int64_t width) {
             if (width == kWidth)
               return buildColumns(b, part, column, 2, 0);
             if (width >= kAMXTile)
               buildColumns(b, part, column, 1, 0);
             if (int64_t few = width % kAMXTile)
               buildColumns(b, part, index(b, numColumns - few), 1, few);
           });
}

void AMXSums::buildColumns(OpBuilder &b, const Part &part, Value column,
                           int64_t numColumnTiles, int64_t numColumns) {
  forRowTiles(b, zero, [&](OpBuilder &b, Value rowTile, int64_t count) {
    buildTiles(b, part, {column, rowTile, numColumnTiles, count, numColumns});
  });
}

void AMXSums::buildTiles(OpBuilder &b, const Part &part, const Tiles &tiles) {
  Carried sums;
  for (int64_t i = 0; i < tiles.numColumnTiles * tiles.numRowTiles; ++i)
    sums.push_back(amx::TileZeroOp::create(b, loc, sumType(b)));
  int64_t tail = part.size % kStep;
  sums = buildFor(
      b, loc, zero, index(b, part.size - tail), sums,
      [&](OpBuilder &b, Location, Value k, ValueRange carried) {
        return addStep(b, part, tiles, k, kStep, carried);
      },
      index(b, kStep));
  if (tail)
    sums = addStep(b, part, tiles, index(b, part.size - tail), tail, sums);
  for (auto [i, tile] : llvm::enumerate(sums)) {
    int64_t columnTile = i / tiles.numRowTiles, row = i % tiles.numRowTiles;
    storeSums(b, part, tile,
              add(b, tiles.column, index(b, columnTile * kAMXTile)),
              add(b, tiles.rowTile, index(b, row)));
  }
}

/// sums += weights · rows for `length` elements of k from start + `k` on.
Carried AMXSums::addStep(OpBuilder &b, const Part &part, const Tiles &tiles,
                         Value k, int64_t length, ValueRange sums) {
  SmallVector<Value> rowTiles =
      loadRows(b, tiles.rowTile, tiles.numRowTiles, k);
  Carried next;
  for (int64_t i = 0; i < tiles.numColumnTiles; ++i) {
    Value weights = loadWeights(b, part, tiles, i, k, length);
    for (Value row : rowTiles)
      next.push_back(amx::TileMulFOp::create(b, loc, sumType(b), weights, row,
                                             sums[next.size()]));
  }
  return next;
}

/// Elements from the first of a column to the first of the next.
Value AMXSums::columnDistance(OpBuilder &b, const Part &part) {
  Value weight = part.term.getWeight();
  AffineMap map = part.term.getWeightMap();
  auto [strides, offset] =
      cast<MemRefType>(weight.getType()).getStridesAndOffset();
  memref::ExtractStridedMetadataOp metadata;
  Value distance = zero;
  for (auto [i, expr] : llvm::enumerate(map.getResults())) {
    int64_t growth = *getGrowth(expr, map.getNumDims());
    if (growth == 0)
      continue;
    if (ShapedType::isDynamic(strides[i]) && !metadata)
      metadata = memref::ExtractStridedMetadataOp::create(b, loc, weight);
    Value stride = ShapedType::isDynamic(strides[i]) ? metadata.getStrides()[i]
                                                     : index(b, strides[i]);
    distance = add(b, distance, mul(b, stride, index(b, growth)));
  }
  return distance;
}

/// Tile `i` of the columns: in place, or, where it is not whole, from a copy.
Value AMXSums::loadWeights(OpBuilder &b, const Part &part, const Tiles &tiles,
                           int64_t i, Value k, int64_t length) {
  Value weight = part.term.getWeight();
  AffineMap map = part.term.getWeightMap();
  Value column = add(b, tiles.column, index(b, i * kAMXTile));
  if (length == kStep && tiles.numColumns == 0)
    return amx::TileLoadOp::create(
        b, loc, factorType(b), weight,
        buildIndices(b, loc, map, weightIndices(b, part, column, k)),
        columnDistance(b, part));
  Value number = index(b, i);
  int64_t count = tiles.numColumns ? tiles.numColumns : kAMXTile;
  Value mask = buildPrefixMask(b, loc, kStep, length);
  loop(b, zero, index(b, count), one, [&](OpBuilder &b, Value row) {
    MatmulIndices dims = weightIndices(b, part, add(b, column, row), k);
    Value elements = loadVector(b, loc, weight, buildIndices(b, loc, map, dims),
                                kStep, mask);
    storeVector(b, loc, elements, block.amx.edge, ValueRange{number, row, zero},
                Value());
  });
  return amx::TileLoadOp::create(b, loc, factorType(b), block.amx.edge,
                                 ValueRange{number, zero, zero});
}

/// Rows beyond the last, and columns beyond N, get what means nothing: the
/// scratch block has them, and nobody reads them.
void AMXSums::storeSums(OpBuilder &b, const Part &part, Value tile,
                        Value column, Value rowTile) {
  amx::TileStoreOp::create(b, loc, block.amx.result, ValueRange{zero, zero},
                           tile);
  SmallVector<Value> vectors;
  for (int64_t i = 0; i < kAMXTile; ++i)
    vectors.push_back(loadVector(b, loc, block.amx.result,
                                 ValueRange{index(b, i), zero}, kAMXTile,
                                 Value()));
  Value place = mul(b, rowTile, index(b, kAMXTile));
  Value local = sub(b, column, block.begin);
  for (auto [i, sums] : llvm::enumerate(transposeSquare(b, loc, vectors))) {
    SmallVector<Value> at = {index(b, part.product), add(b, place, index(b, i)),
                             local};
    if (part.accumulate)
      sums = arith::AddFOp::create(
          b, loc, loadVector(b, loc, block.scratch, at, kAMXTile, Value()),
          sums);
    storeVector(b, loc, sums, block.scratch, at, Value());
  }
}

void mlir::moe::buildAMXBlockSums(OpBuilder &builder,
                                  const MatmulBuilder &matmul,
                                  const MatmulBlock &block,
                                  const BlockRows &rows) {
  AMXSums(matmul, block, rows).build(builder);
}
