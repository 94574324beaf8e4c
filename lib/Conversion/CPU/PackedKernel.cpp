//===- PackedKernel.cpp - A tile of sums, of packed weights ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Vectors run along n, a lane is a column, and an element of a row, or a pair
// of them, is broadcast: there are no lanes to add up in the end. What a step
// multiplies lies in one piece, so weights need no shuffle and come from memory
// in order.
//
//===----------------------------------------------------------------------===//

#include "PackedKernel.h"

#include "RowBroadcast.h"
#include "VectorAccess.h"
#include "WeightLayout.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

PackedWeights::PackedWeights(OpBuilder &b, Location loc,
                             const Matmul::Term &term)
    : buffer(term.getWeight()), expert(term.getWeightMap().getSubMap({0})),
      pair(getPanelPair(getWeightType(term))), stepSize(kPanelColumns * pair) {
  if (pair == 1)
    return;
  SmallVector<ReassociationIndices> dims = {{0}, {1}, {2}, {3, 4}};
  buffer = memref::CollapseShapeOp::create(b, loc, buffer, dims);
}

SmallVector<Value> PackedWeights::placeOf(OpBuilder &b, Location loc,
                                          OpFoldResult expertId,
                                          OpFoldResult column,
                                          Value sum) const {
  auto divide = [&](Value x, int64_t y) -> Value {
    return y == 1 ? x
                  : arith::DivUIOp::create(b, loc, x, buildIndex(b, loc, y))
                        .getResult();
  };
  MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
  dims[Matmul::kExpert] = expertId;
  SmallVector<Value> at = buildIndices(b, loc, expert, dims);
  at.push_back(
      divide(getValueOrCreateConstantIndexOp(b, loc, column), kPanelColumns));
  at.push_back(divide(sum, pair));
  at.push_back(buildIndex(b, loc, 0));
  return at;
}

int64_t PackedWeights::getLineSize() const {
  constexpr int64_t kBitsOfLine = 512;
  return kBitsOfLine /
         getElementTypeOrSelf(buffer.getType()).getIntOrFloatBitWidth();
}

void PackedWeights::prefetch(OpBuilder &b, Location loc, Value weights,
                             SmallVector<Value> at, int64_t numLines) const {
  Value line = buildIndex(b, loc, getLineSize());
  for (int64_t i = 0; i < numLines; ++i) {
    buildPrefetch(b, loc, weights, at, /*toFirstCache=*/true);
    at.back() = arith::AddIOp::create(b, loc, at.back(), line);
  }
}

//===----------------------------------------------------------------------===//
// The loop over k
//===----------------------------------------------------------------------===//

namespace {
class PackedTileBuilder {
public:
  PackedTileBuilder(OpBuilder &b, Location loc, const PackedTile &tile)
      : b(b), loc(loc), tile(tile), lanes(tile.config.getLanes()),
        pair(tile.weights.pair),
        weightType(getElementTypeOrSelf(tile.weights.buffer.getType())) {}

  SmallVector<Value> build(ValueRange initial) {
    Carried sums = buildFor(
        b, loc, index(0), tile.steps, initial,
        [&](OpBuilder &body, Location, Value step, ValueRange carried) {
          return PackedTileBuilder(body, loc, tile)
              .addStep(step, carried, pair);
        });
    if (tile.tail)
      sums = addStep(tile.steps, sums, 1);
    return sums;
  }

private:
  OpBuilder &b;
  Location loc;
  const PackedTile &tile;
  int64_t lanes, pair;
  Type weightType;

  Value index(int64_t value) { return buildIndex(b, loc, value); }
  Value add(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }

  bool multipliesPairs() { return tile.config.usesBf16Dot(); }
  size_t getNumVectors() {
    return tile.numPanels * tile.config.getTileColumns();
  }

  /// `count` elements of k: all of a step, or the first one.
  ///
  /// Sixteen registers have room for the rows or for the weights, not for both
  /// beside the sums: for rows, of which there are fewer. Where there are more,
  /// they keep the weights, which are few in a tile of many rows.
  Carried addStep(Value step, ValueRange sums, int64_t count) {
    constexpr int64_t kLanesOfSixteen = 8;
    prefetchWeights(step);
    prefetchRows(step);
    Carried next(sums);
    int64_t numProducts = multipliesPairs() ? 1 : count;
    if (lanes <= kLanesOfSixteen)
      multiplyByRows(step, numProducts, count, next);
    else
      multiplyByWeights(step, numProducts, count, next);
    return next;
  }

  void multiplyByRows(Value step, int64_t numProducts, int64_t count,
                      Carried &sums) {
    size_t numRows = tile.rows.size();
    SmallVector<Value> rows;
    for (int64_t i = 0; i < numProducts; ++i)
      for (size_t row = 0; row < numRows; ++row)
        rows.push_back(buildRow(row, step, i, count));
    for (size_t v = 0; v < getNumVectors(); ++v)
      for (int64_t i = 0; i < numProducts; ++i) {
        Value weight = buildWeight(v, step, i);
        for (size_t row = 0; row < numRows; ++row)
          multiplyAdd(row, rows[i * numRows + row], v, weight, sums);
      }
  }

  /// A row's elements one after the other, so that a pair is loaded once and
  /// not kept.
  void multiplyByWeights(Value step, int64_t numProducts, int64_t count,
                         Carried &sums) {
    SmallVector<Value> weights;
    for (int64_t i = 0; i < numProducts; ++i)
      for (size_t v = 0; v < getNumVectors(); ++v)
        weights.push_back(buildWeight(v, step, i));
    for (size_t row = 0; row < tile.rows.size(); ++row)
      for (int64_t i = 0; i < numProducts; ++i) {
        Value lhs = buildRow(row, step, i, count);
        for (size_t v = 0; v < getNumVectors(); ++v)
          multiplyAdd(row, lhs, v, weights[i * getNumVectors() + v], sums);
      }
  }

  void multiplyAdd(size_t row, Value lhs, size_t v, Value weight,
                   Carried &sums) {
    Value &sum = sums[row * getNumVectors() + v];
    if (multipliesPairs())
      sum =
          x86vector::DotBF16Op::create(b, loc, sum.getType(), sum, lhs, weight);
    else
      sum = vector::FMAOp::create(b, loc, lhs, weight, sum);
  }

  /// Element `i` of a step, or all of it where pairs are multiplied, in all
  /// lanes.
  Value buildRow(size_t row, Value step, int64_t i, int64_t count) {
    MatmulIndices dims = tile.dims;
    dims[Matmul::kRow] = tile.rows[row];
    dims[Matmul::kToken] = tile.tokens[row];
    Value k = add(tile.begin, arith::MulIOp::create(b, loc, step, index(pair)));
    dims[Matmul::kSum] = k;
    bool isPair = pair > 1 && getElementTypeOrSelf(tile.lhs.buffer).isBF16();
    if (isPair) {
      Value bits = broadcastPair(b, loc, tile.lhs, dims, count, lanes);
      return multipliesPairs() ? asPairs(bits) : extractOfPair(b, loc, bits, i);
    }
    if (i > 0)
      dims[Matmul::kSum] = add(k, index(i));
    return broadcastElement(b, loc, tile.lhs, dims, lanes);
  }

  /// Element `i` of a step, or all of it where pairs are multiplied, of vector
  /// `v` of the columns.
  Value buildWeight(size_t v, Value step, int64_t i) {
    SmallVector<Value> at =
        tile.weights.placeOf(b, loc, tile.dims[Matmul::kExpert],
                             tile.dims[Matmul::kColumn], tile.begin);
    int64_t column = v * lanes;
    Value &here = at[at.size() - 2];
    here = add(here, step);
    at.back() = index(column % kPanelColumns * pair);
    Value loaded = loadVector(b, loc, tile.weights.buffer,
                              atPanel(at, column / kPanelColumns), lanes * pair,
                              /*mask=*/Value());
    if (multipliesPairs())
      return loaded;
    if (pair == 1)
      return buildExtensionToF32(b, loc, loaded);
    Value bits = vector::BitCastOp::create(
        b, loc, VectorType::get({lanes}, b.getI32Type()), loaded);
    return extractOfPair(b, loc, bits, i);
  }

  /// The same place, `panel` panels further.
  SmallVector<Value> atPanel(SmallVector<Value> at, int64_t panel) {
    Value &here = at[at.size() - 3];
    if (panel > 0)
      here = add(here, index(panel));
    return at;
  }

  Value asPairs(Value bits) {
    return vector::BitCastOp::create(
        b, loc, VectorType::get({lanes * pair}, weightType), bits);
  }

  void prefetchWeights(Value step) {
    const auto &next = tile.ahead.panel;
    if (!next.weights)
      return;
    const PackedWeights &weights = tile.weights;
    SmallVector<Value> at =
        weights.placeOf(b, loc, next.expert, next.column, next.sum);
    at.back() =
        add(next.element, arith::MulIOp::create(b, loc, step, next.growth));
    int64_t numLines =
        llvm::divideCeil(weights.stepSize, weights.getLineSize());
    for (int64_t panel = 0; panel < tile.numPanels; ++panel)
      weights.prefetch(b, loc, next.weights, atPanel(at, panel), numLines);
  }

  void prefetchRows(Value step) {
    const auto &next = tile.ahead.rows;
    if (!next.row)
      return;
    MatmulIndices dims = tile.dims;
    dims[Matmul::kRow] = next.row;
    dims[Matmul::kSum] = add(
        next.element, arith::MulIOp::create(b, loc, step, index(next.growth)));
    buildPrefetch(b, loc, tile.lhs.buffer,
                  buildIndices(b, loc, tile.lhs.map, dims),
                  /*toFirstCache=*/false);
  }
};
} // namespace

SmallVector<Value> mlir::moe::buildPackedTile(OpBuilder &builder, Location loc,
                                              const PackedTile &tile,
                                              ValueRange sums) {
  return PackedTileBuilder(builder, loc, tile).build(sums);
}
