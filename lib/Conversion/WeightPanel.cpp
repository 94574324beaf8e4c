//===- WeightPanel.cpp - Weights of a block, turned to run along k --------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Checkpoints with E×K×N weights (gpt-oss, DBRX, Llama 4). A block of columns
// is turned once for all rows of the block, in square blocks of 32-bit lanes:
// two elements of k are one lane where elements have 16 bits, as the dot
// product of pairs wants them. A panel (48 columns of 2048 bf16 = 192 KB) stays
// in the second cache, like the rows.
//
//===----------------------------------------------------------------------===//

#include "WeightPanel.h"

#include "BlockShuffles.h"
#include "ColumnVectors.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

Type mlir::moe::getWeightType(const Matmul::Term &term) {
  return cast<ShapedType>(term.getWeight().getType()).getElementType();
}

bool mlir::moe::runsAlongSum(const Matmul::Term &term) {
  return isUnitStride(term.getWeightMap(), Matmul::kSum);
}

bool mlir::moe::canTurn(const Matmul::Term &term) {
  unsigned bits = getWeightType(term).getIntOrFloatBitWidth();
  return getColumnStride(term.getWeightMap()) && (bits == 16 || bits == 32);
}

/// Elements of k in a lane of 32 bits.
static int64_t getElementsOfLane(Type elementType) {
  return 32 / elementType.getIntOrFloatBitWidth();
}

int64_t mlir::moe::getPanelLength(Type elementType, int64_t size,
                                  int64_t lanes) {
  // An odd number of cache lines: rows a power of two apart would share sets.
  int64_t step = lanes * getElementsOfLane(elementType);
  return (llvm::divideCeil(size, step) | 1) * step;
}

//===----------------------------------------------------------------------===//
// A square block
//===----------------------------------------------------------------------===//

/// Turns as many vectors as each has lanes: lane j of vector i becomes lane i
/// of vector j.
static SmallVector<Value> turn(OpBuilder &b, Location loc,
                               ArrayRef<Value> rows) {
  size_t lanes = rows.size();
  SmallVector<Value> vectors(rows);
  for (unsigned level = 0; level < llvm::Log2_64(lanes); ++level) {
    BlockShuffles masks = getBlockShuffles(lanes, level);
    size_t distance = size_t(1) << level;
    for (size_t group = 0; group < lanes; group += 2 * distance)
      for (size_t i = group; i < group + distance; ++i)
        std::tie(vectors[i], vectors[i + distance]) =
            shufflePair(b, loc, vectors[i], vectors[i + distance], masks);
  }
  // Within blocks, the second bit of a column came first.
  for (size_t column = 0; column < lanes; column += kShuffleBlock)
    std::swap(vectors[column + 1], vectors[column + 2]);
  return vectors;
}

//===----------------------------------------------------------------------===//
// The panel
//===----------------------------------------------------------------------===//

namespace {
class PanelBuilder {
public:
  PanelBuilder(Location loc, const PanelPart &part, Value panel)
      : loc(loc), part(part), panel(panel), type(getWeightType(part.term)),
        elementsOfLane(getElementsOfLane(type)),
        step(part.lanes * elementsOfLane) {}

  /// k is the outer loop: weights are read in their order.
  void build(OpBuilder &b) {
    int64_t rest = part.size % step;
    Value wholeEnd = buildIndex(b, loc, part.size - rest);
    buildLoop(b, loc, buildIndex(b, loc, 0), wholeEnd, buildIndex(b, loc, step),
              [&](OpBuilder &b, Value k) { buildColumns(b, k, step); });
    if (rest)
      buildColumns(b, wholeEnd, rest);
  }

private:
  Location loc;
  const PanelPart &part;
  Value panel;
  Type type;
  int64_t elementsOfLane, step;

  /// `count` elements of k from start + `k` on, for all columns.
  void buildColumns(OpBuilder &b, Value k, int64_t count) {
    Value lanes = buildIndex(b, loc, part.lanes);
    auto buildBlock = [&](OpBuilder &b, Value column) {
      SmallVector<Value> rows;
      for (int64_t lane = 0; lane < part.lanes; ++lane)
        rows.push_back(buildRow(b, k, lane * elementsOfLane, count, column));
      Value place = arith::SubIOp::create(b, loc, column, part.begin);
      for (auto [i, vector] : llvm::enumerate(turn(b, loc, rows))) {
        Value elements = vector::BitCastOp::create(
            b, loc, VectorType::get({step}, type), vector);
        Value row = arith::AddIOp::create(b, loc, place, buildIndex(b, loc, i));
        vector::StoreOp::create(b, loc, elements, panel, ValueRange{row, k});
      }
    };
    buildLoop(b, loc, part.begin, part.end, lanes, buildBlock);
  }

  /// A lane of 32 bits for each column: k + `offset` and, of 16-bit elements,
  /// the one after it.
  Value buildRow(OpBuilder &b, Value k, int64_t offset, int64_t count,
                 Value column) {
    SmallVector<Value> elements;
    for (int64_t i = offset; i < offset + elementsOfLane; ++i)
      elements.push_back(i < count ? loadColumns(b, k, i, column) : zero(b));
    Value row = elements[0];
    if (elements.size() == 2)
      row = vector::InterleaveOp::create(b, loc, row, elements[1]);
    return vector::BitCastOp::create(
        b, loc, VectorType::get({part.lanes}, b.getF32Type()), row);
  }

  Value zero(OpBuilder &b) {
    auto vector = VectorType::get({part.lanes}, type);
    return arith::ConstantOp::create(b, loc, b.getZeroAttr(vector));
  }

  Value loadColumns(OpBuilder &b, Value k, int64_t offset, Value column) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = part.expert;
    dims[Matmul::kColumn] = column;
    dims[Matmul::kSum] = arith::AddIOp::create(
                             b, loc, k, buildIndex(b, loc, part.start + offset))
                             .getResult();
    return loadColumnVector(b, loc, part.term.getWeight(),
                            part.term.getWeightMap(), dims, part.lanes,
                            part.numLeft(b, column));
  }
};
} // namespace

void mlir::moe::buildPanel(OpBuilder &builder, Location loc,
                           const PanelPart &part, Value panel) {
  PanelBuilder(loc, part, panel).build(builder);
}
