//===- ColumnKernel.cpp - A tile of sums, of weights along n --------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where weights are stored with n last, vectors run along n: a lane is a
// column, an element of a row is broadcast, and there are no lanes to add in
// the end. The product of bf16 pairs wants two elements of k beside each other,
// so two rows of weights are interleaved: one shuffle for each vector, the
// cheapest that there is (within blocks of 128 bits, which mixes up the
// columns; the sums are put in order when they leave the registers). Gate and
// up that lie in turns take the same shuffle with other lanes.
//
//===----------------------------------------------------------------------===//

#include "ColumnKernel.h"

#include "ColumnVectors.h"
#include "RowBroadcast.h"
#include "VectorAccess.h"
#include "WeightLayout.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

ColumnShape::ColumnShape(CPUMatmulAttr config, const ColumnGroup &group)
    : group(group), lanes(config.getLanes()),
      step(config.getStep() / config.getLanes()),
      columnsOfLoad(lanes * (group.stride == 1 ? step : 1)) {
  constexpr int64_t kVectorsOfAMX = 2;
  int64_t numVectors =
      config.usesAMX() ? kVectorsOfAMX : config.getTileColumns();
  loadsOfTile = std::max<int64_t>(1, numVectors / getVectorsOfLoad());
  Builder b(config.getContext());
  Type element = step == 2 ? Type(b.getBF16Type()) : b.getF32Type();
  operandType = VectorType::get({lanes * step}, element);
}

int64_t ColumnShape::getElementsOf(int64_t columns) const {
  int64_t last = 0;
  for (const ColumnGroup::Member &member : group.members)
    last = std::max(last, member.place);
  return (std::min(columns, columnsOfLoad) - 1) * group.stride + last + 1;
}

//===----------------------------------------------------------------------===//
// Columns that a shuffle within blocks has mixed up
//===----------------------------------------------------------------------===//

BlockShuffles mlir::moe::getBlockOrder(int64_t lanes, bool gather) {
  BlockShuffles masks;
  for (int64_t lane = 0; lane < 2 * lanes; ++lane) {
    int64_t block = lane / kShuffleBlock, numBlocks = 2 * lanes / kShuffleBlock;
    // In order of columns, even blocks are the first vector's.
    int64_t from = gather ? block * 2 % numBlocks + block * 2 / numBlocks
                          : block / 2 + block % 2 * (numBlocks / 2);
    (lane < lanes ? masks.first : masks.second)
        .push_back(from * kShuffleBlock + lane % kShuffleBlock);
  }
  return masks;
}

//===----------------------------------------------------------------------===//
// The loop over k
//===----------------------------------------------------------------------===//

namespace {
class ColumnTileBuilder {
public:
  ColumnTileBuilder(OpBuilder &b, Location loc, const ColumnTile &tile)
      : b(b), loc(loc), tile(tile), shape(tile.config, tile.group),
        numLoads(llvm::divideCeil(tile.numColumns, shape.getColumnsOfLoad())),
        accType(VectorType::get({tile.config.getLanes()}, b.getF32Type())) {}

  SmallVector<Value> build(ValueRange initial) {
    Carried sums = reorder(initial, /*gather=*/true);
    sums = buildFor(
        b, loc, buildIndex(b, loc, 0), tile.steps, sums,
        [&](OpBuilder &body, Location, Value step, ValueRange carried) {
          return ColumnTileBuilder(body, loc, tile)
              .addStep(step, carried, shape.getStep());
        });
    if (tile.tail)
      sums = addStep(tile.steps, sums, 1);
    return reorder(sums, /*gather=*/false);
  }

  void buildPanel() {
    buildLoop(
        b, loc, buildIndex(b, loc, 0), tile.steps, buildIndex(b, loc, 1),
        [&](OpBuilder &body, Value step) {
          ColumnTileBuilder(body, loc, tile).addToPanel(step, shape.getStep());
        });
    if (tile.tail)
      addToPanel(tile.steps, 1);
  }

private:
  OpBuilder &b;
  Location loc;
  const ColumnTile &tile;
  ColumnShape shape;
  int64_t numLoads;
  VectorType accType;

  bool isPaired() { return shape.getVectorsOfMember() == 2; }

  /// Sums of pairs in the order of columns to that of the products, or back.
  Carried reorder(ValueRange sums, bool gather) {
    Carried ordered(sums);
    if (!isPaired())
      return ordered;
    BlockShuffles masks = getBlockOrder(accType.getNumElements(), gather);
    for (size_t i = 0; i < ordered.size(); i += 2)
      std::tie(ordered[i], ordered[i + 1]) =
          shufflePair(b, loc, ordered[i], ordered[i + 1], masks);
    return ordered;
  }

  /// The first element of k of a step, on the way to which the next tile's are
  /// asked for.
  Value startStep(Value step) {
    Value offset = arith::MulIOp::create(b, loc, step,
                                         buildIndex(b, loc, shape.getStep()));
    prefetch(offset);
    return arith::AddIOp::create(b, loc, tile.start, offset);
  }

  /// `count` elements of k, to the panel.
  void addToPanel(Value step, int64_t count) {
    forWeights(step, startStep(step), count, [](size_t, Value) {});
  }

  /// `count` elements of k.
  Carried addStep(Value step, ValueRange sums, int64_t count) {
    Value k = startStep(step);
    Carried next(sums);
    auto multiply = [&](size_t row, Value lhs, size_t column, Value weight) {
      Value &sum = next[row * getNumWeights() + column];
      sum = multiplyAdd(lhs, weight, sum);
    };
    // Sixteen registers have room for the rows or for the weights, not for both
    // beside the sums: here for rows, of which there are fewer.
    constexpr int64_t kLanesOfSixteen = 8;
    if (tile.config.getLanes() <= kLanesOfSixteen) {
      SmallVector<Value> rows;
      forRows(k, count, [&](size_t, Value lhs) { rows.push_back(lhs); });
      forWeights(step, k, count, [&](size_t column, Value weight) {
        for (auto [row, lhs] : llvm::enumerate(rows))
          multiply(row, lhs, column, weight);
      });
      return next;
    }
    SmallVector<Value> weights(getNumWeights());
    forWeights(step, k, count,
               [&](size_t column, Value weight) { weights[column] = weight; });
    forRows(k, count, [&](size_t row, Value lhs) {
      for (auto [column, weight] : llvm::enumerate(weights))
        multiply(row, lhs, column, weight);
    });
    return next;
  }

  Value multiplyAdd(Value lhs, Value weight, Value sum) {
    if (tile.config.usesBf16Dot())
      return x86vector::DotBF16Op::create(b, loc, accType, sum, lhs, weight);
    return vector::FMAOp::create(b, loc, lhs, weight, sum);
  }

  //===--------------------------------------------------------------------===//
  // Rows
  //===--------------------------------------------------------------------===//

  void forRows(Value k, int64_t count, function_ref<void(size_t, Value)> body) {
    for (size_t i = 0; i < tile.rows.size(); ++i)
      body(i, broadcastRow(tile.rows[i], tile.tokens[i], k, count));
  }

  /// An element of a row, or two of them as a pair, in all lanes.
  Value broadcastRow(OpFoldResult row, OpFoldResult token, Value k,
                     int64_t count) {
    MatmulIndices dims = tile.dims;
    dims[Matmul::kRow] = row;
    dims[Matmul::kToken] = token;
    dims[Matmul::kSum] = k;
    int64_t lanes = tile.config.getLanes();
    if (!tile.config.usesBf16Dot())
      return broadcastElement(b, loc, tile.lhs, dims, lanes);
    return vector::BitCastOp::create(
        b, loc, shape.getOperandType(),
        broadcastPair(b, loc, tile.lhs, dims, count, lanes));
  }

  //===--------------------------------------------------------------------===//
  // Weights
  //===--------------------------------------------------------------------===//

  /// Where column `column` + `load` loads at `k` is, of the member with place
  /// 0.
  SmallVector<Value> placeOf(MatmulIndices dims, OpFoldResult column,
                             int64_t load, Value k) {
    dims[Matmul::kColumn] = affine::makeComposedFoldedAffineApply(
        b, loc, b.getAffineDimExpr(0) + load * shape.getColumnsOfLoad(),
        {column});
    dims[Matmul::kSum] = k;
    const Matmul::Term &term = *tile.group.term;
    SmallVector<Value> at = buildIndices(b, loc, term.getWeightMap(), dims);
    if (int64_t place = tile.group.members[0].place)
      at.back() =
          arith::SubIOp::create(b, loc, at.back(), buildIndex(b, loc, place));
    return at;
  }

  /// The elements of `load` at `k`; 0 from the last column on.
  Value loadElements(int64_t load, Value k) {
    int64_t columns = tile.numColumns - load * shape.getColumnsOfLoad();
    int64_t elements = shape.getElementsOfLoad();
    Value mask =
        buildPrefixMask(b, loc, elements, shape.getElementsOf(columns));
    return loadVector(b, loc, tile.group.term->getWeight(),
                      placeOf(tile.dims, tile.dims[Matmul::kColumn], load, k),
                      elements, mask);
  }

  size_t getNumWeights() const { return numLoads * shape.getVectorsOfLoad(); }

  /// Calls `body` with each operand of a step and its place among the sums of a
  /// row.
  void forWeights(Value step, Value k, int64_t count,
                  function_ref<void(size_t, Value)> body) {
    if (tile.source == ColumnTile::Source::Panel) {
      for (size_t i = 0; i < getNumWeights(); ++i)
        body(i, vector::LoadOp::create(b, loc, shape.getOperandType(),
                                       tile.panel, panelIndex(step, i)));
      return;
    }
    SmallVector<SmallVector<Value, 2>> loads(numLoads);
    size_t place = 0;
    for (const ColumnGroup::Member &member : tile.group.members)
      for (auto [load, rows] : llvm::enumerate(loads))
        for (int64_t i = 0; i < shape.getVectorsOfMember(); ++i, ++place) {
          if (rows.empty())
            rows = loadStep(load, k, count);
          Value weight = buildOperand(rows, member.place, i);
          if (tile.source == ColumnTile::Source::WeightsToPanel)
            vector::StoreOp::create(b, loc, weight, tile.panel,
                                    panelIndex(step, place));
          body(place, weight);
        }
  }

  /// A vector for each element of k that a step multiplies.
  SmallVector<Value, 2> loadStep(int64_t load, Value k, int64_t count) {
    SmallVector<Value, 2> rows;
    for (int64_t i = 0; i < shape.getStep(); ++i) {
      Value at = i ? arith::AddIOp::create(b, loc, k, buildIndex(b, loc, i))
                         .getResult()
                   : k;
      rows.push_back(i < count
                         ? loadElements(load, at)
                         : arith::ConstantOp::create(
                               b, loc, b.getZeroAttr(rows.front().getType())));
    }
    return rows;
  }

  /// Vector `i` of the columns at `place` of a load.
  Value buildOperand(ArrayRef<Value> rows, int64_t place, int64_t i) {
    int64_t lanes = accType.getNumElements();
    SmallVector<int64_t> mask;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      int64_t column = lane;
      if (isPaired()) {
        int64_t block = lane / kShuffleBlock;
        column = (2 * block + i) * kShuffleBlock + lane % kShuffleBlock;
      }
      for (int64_t row = 0; row < shape.getStep(); ++row)
        mask.push_back(row * shape.getElementsOfLoad() +
                       column * tile.group.stride + place);
    }
    Value operand = rows[0];
    if (shape.getStep() != 1 || tile.group.stride != 1)
      operand =
          vector::ShuffleOp::create(b, loc, rows.front(), rows.back(), mask);
    return shape.getStep() == 2 ? operand
                                : buildExtensionToF32(b, loc, operand);
  }

  SmallVector<Value> panelIndex(Value step, int64_t vector) {
    return {step, buildIndex(b, loc, vector), buildIndex(b, loc, 0)};
  }

  void prefetch(Value offset) {
    if (tile.prefetch.loads == 0)
      return;
    MatmulIndices dims = tile.dims;
    dims[Matmul::kExpert] = tile.prefetch.expert;
    Value sum = arith::AddIOp::create(b, loc, tile.prefetch.sum, offset);
    for (int64_t i = 0; i < tile.prefetch.elements; ++i) {
      Value k = arith::AddIOp::create(b, loc, sum, buildIndex(b, loc, i));
      for (int64_t load = 0; load < tile.prefetch.loads; ++load) {
        SmallVector<Value> at =
            placeOf(dims, getAsOpFoldResult(tile.prefetch.column), load, k);
        // The last element: where weights are not aligned to lines, the line of
        // the first one is the last line of the load before.
        at.back() = arith::AddIOp::create(
            b, loc, at.back(),
            buildIndex(b, loc, shape.getElementsOfLoad() - 1));
        buildPrefetch(b, loc, tile.group.term->getWeight(), at,
                      tile.prefetch.toFirstCache);
      }
    }
  }
};
} // namespace

SmallVector<Value> mlir::moe::buildColumnTile(OpBuilder &builder, Location loc,
                                              const ColumnTile &tile,
                                              ValueRange sums) {
  return ColumnTileBuilder(builder, loc, tile).build(sums);
}

void mlir::moe::buildColumnPanel(OpBuilder &builder, Location loc,
                                 const ColumnTile &tile) {
  ColumnTileBuilder(builder, loc, tile).buildPanel();
}
