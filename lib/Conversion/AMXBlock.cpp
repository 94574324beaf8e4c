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
// block.
//
// All tiles have one shape, as the configuration of tiles belongs to a function
// and a new one clears them: what is narrower, at the end of k and of the
// columns, is copied to the stack and filled up. Tokens beyond the last are
// copies of it. So a sum adds up in one order, whatever else is in the block.
//
//===----------------------------------------------------------------------===//

#include "AMXBlock.h"

#include "BlockShuffles.h"
#include "MicroKernel.h"
#include "RowPanel.h"
#include "VectorAccess.h"
#include "WeightLayout.h"
#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// Elements of k in a row of a tile.
static constexpr int64_t kStep = 2 * kAMXTile;

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
  if (term.prologue)
    return "a prologue computes rows";
  if (term.decode)
    return "a weight is decoded";
  if (!runsAlongSum(term))
    return "a weight does not have k as its last index; store it as E×N×K";
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

/// Turns 16 vectors of 16 lanes: lane j of vector i becomes lane i of vector j.
static SmallVector<Value> turn(OpBuilder &b, Location loc,
                               SmallVector<Value> vectors) {
  constexpr unsigned kLevels = 4;
  for (unsigned level = 0; level < kLevels; ++level) {
    BlockShuffles masks = getBlockShuffles(kAMXTile, level);
    size_t distance = size_t(1) << level;
    for (size_t group = 0; group < kAMXTile; group += 2 * distance)
      for (size_t i = group; i < group + distance; ++i)
        std::tie(vectors[i], vectors[i + distance]) =
            shufflePair(b, loc, vectors[i], vectors[i + distance], masks);
  }
  // Within blocks, the second bit of a column came first.
  for (size_t i = 0; i < kAMXTile; i += kShuffleBlock)
    std::swap(vectors[i + 1], vectors[i + 2]);
  return vectors;
}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

namespace {
class BufferBuilder : MatmulBuilder {
public:
  explicit BufferBuilder(const MatmulBuilder &matmul) : MatmulBuilder(matmul) {}

  AMXBuffers build(OpBuilder &b) {
    int64_t length = 0;
    for (const Matmul::Product &product : products)
      for (const Matmul::Term &term : product)
        length = std::max(length, getPartLength(config, term.getLength()));
    Type bf16 = b.getBF16Type();
    return {allocate(b, {config.getBlockRows() / kAMXTile, length / 2, kStep},
                     bf16),
            allocate(b, {2, kAMXTile, kStep}, bf16),
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
class AMXSums : MatmulBuilder {
public:
  AMXSums(const MatmulBuilder &matmul, const MatmulBlock &block,
          const BlockRows &rows)
      : MatmulBuilder(matmul), block(block), rows(rows) {}

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

  void fillPanel(OpBuilder &b, const Part &part);
  void buildPart(OpBuilder &b, const Part &part);
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
  Value numRowTiles(OpBuilder &b) {
    return arith::DivUIOp::create(
        b, loc, add(b, rows.count, index(b, kAMXTile - 1)), index(b, kAMXTile));
  }
  amx::TileType factorType(OpBuilder &b) {
    return amx::TileType::get({kAMXTile, kStep}, b.getBF16Type());
  }
  amx::TileType sumType(OpBuilder &b) {
    return amx::TileType::get({kAMXTile, kAMXTile}, b.getF32Type());
  }
  VectorType pairsType(OpBuilder &b) {
    return VectorType::get({kStep}, b.getBF16Type());
  }

  const MatmulBlock &block;
  const BlockRows &rows;
};
} // namespace

static bool haveSameRows(const SumPart &x, const SumPart &y) {
  return x.term.lhs == y.term.lhs && x.term.lhsMap == y.term.lhsMap &&
         x.start == y.start && x.size == y.size;
}

/// Products of one term each, gate and up for instance, take their parts by
/// turns, so that those with the same rows have one panel.
void AMXSums::build(OpBuilder &b) {
  std::vector<Part> parts = splitSums(products, [&](const Matmul::Term &term) {
    return getPartLength(config, term.getLength());
  });
  SmallVector<bool> isDone(parts.size(), false);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (isDone[i])
      continue;
    fillPanel(b, parts[i]);
    for (size_t j = i; j < parts.size(); ++j) {
      // A product's own parts stay in order: the first one overwrites.
      bool isNext = true;
      for (size_t before = 0; before < j; ++before)
        isNext &= isDone[before] || parts[before].product != parts[j].product;
      if (isDone[j] || !isNext || !haveSameRows(parts[j], parts[i]))
        continue;
      buildPart(b, parts[j]);
      isDone[j] = true;
    }
  }
}

/// panel[i, k / 2, 2·t + k % 2] = rows[first + 16·i + t, start + k]; the last
/// row again for rows that are not there, 0 for k beyond the end.
void AMXSums::fillPanel(OpBuilder &b, const Part &part) {
  auto fillBlock = [&](OpBuilder &b, Value rowTile, ArrayRef<Value> theRows,
                       ArrayRef<OpFoldResult> tokens, Value k, int64_t length) {
    Value mask = buildPrefixMask(b, loc, kStep, length);
    auto lanes = VectorType::get({kAMXTile}, b.getF32Type());
    SmallVector<Value> vectors;
    for (auto [row, token] : llvm::zip(theRows, tokens)) {
      MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
      dims[Matmul::kExpert] = rows.expert;
      dims[Matmul::kRow] = row;
      dims[Matmul::kToken] = token;
      dims[Matmul::kSum] = add(b, k, index(b, part.start));
      Value pairs =
          loadVector(b, loc, part.term.lhs,
                     buildIndices(b, loc, part.term.lhsMap, dims), kStep, mask);
      vectors.push_back(vector::BitCastOp::create(b, loc, lanes, pairs));
    }
    Value first = arith::DivUIOp::create(b, loc, k, index(b, 2));
    for (auto [i, vector] : llvm::enumerate(turn(b, loc, vectors))) {
      Value pairs = vector::BitCastOp::create(b, loc, pairsType(b), vector);
      storeVector(b, loc, pairs, block.amx.panel,
                  ValueRange{rowTile, add(b, first, index(b, i)), zero},
                  Value());
    }
  };
  loop(b, zero, numRowTiles(b), one, [&](OpBuilder &b, Value rowTile) {
    SmallVector<Value> theRows;
    SmallVector<OpFoldResult> tokens;
    Value begin = mul(b, rowTile, index(b, kAMXTile));
    Value last = sub(b, rows.count, one);
    for (int64_t i = 0; i < kAMXTile; ++i) {
      Value place = min(b, add(b, begin, index(b, i)), last);
      theRows.push_back(add(b, rows.first, place));
      tokens.push_back(part.term.isGathered() ? tokenOf(b, theRows[i]).token
                                              : b.getIndexAttr(0));
    }
    int64_t tail = part.size % kStep;
    loop(b, zero, index(b, part.size - tail), index(b, kStep),
         [&](OpBuilder &b, Value k) {
           fillBlock(b, rowTile, theRows, tokens, k, kStep);
         });
    if (tail)
      fillBlock(b, rowTile, theRows, tokens, index(b, part.size - tail), tail);
  });
}

/// Two tiles of columns at a time, then what the last block has left.
void AMXSums::buildPart(OpBuilder &b, const Part &part) {
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

/// All rows of the block: two tiles at a time, then one that is left.
void AMXSums::buildColumns(OpBuilder &b, const Part &part, Value column,
                           int64_t numColumnTiles, int64_t numColumns) {
  Value count = numRowTiles(b);
  Value isOdd = arith::RemUIOp::create(b, loc, count, index(b, 2));
  Value whole = sub(b, count, isOdd);
  loop(b, zero, whole, index(b, 2), [&](OpBuilder &b, Value rowTile) {
    buildTiles(b, part, {column, rowTile, numColumnTiles, 2, numColumns});
  });
  loop(b, whole, count, one, [&](OpBuilder &b, Value rowTile) {
    buildTiles(b, part, {column, rowTile, numColumnTiles, 1, numColumns});
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
  Value pair = arith::DivUIOp::create(b, loc, k, index(b, 2));
  SmallVector<Value> rowTiles;
  for (int64_t j = 0; j < tiles.numRowTiles; ++j)
    rowTiles.push_back(amx::TileLoadOp::create(
        b, loc, factorType(b), block.amx.panel,
        ValueRange{add(b, tiles.rowTile, index(b, j)), pair, zero}));
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
  for (auto [i, sums] : llvm::enumerate(turn(b, loc, vectors))) {
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
