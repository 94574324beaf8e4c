//===- PanelCopy.cpp - Vector code that packs one panel -------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Lanes are of 32 bits: an f32, or two elements of 16 bits that are neighbours
// in memory. Ends that fill no vector are read by one that begins earlier, so
// there are no masks, which machines have for some types alone.
//
//===----------------------------------------------------------------------===//

#include "PanelCopy.h"

#include "BlockShuffles.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

int64_t PanelSource::getNumPanels() const {
  return llvm::divideCeil(columns, kPanelColumns);
}

int64_t PanelSource::getLastColumns() const {
  return columns - (getNumPanels() - 1) * kPanelColumns;
}

namespace {

class PanelCopier {
public:
  PanelCopier(const PanelSource &source, Location loc, int64_t lanes,
              Value expert, Value panel, int64_t numColumns)
      : source(source), loc(loc), lanes(lanes), expert(expert), panel(panel),
        numColumns(numColumns),
        type(cast<RankedTensorType>(source.tensor.getType())),
        element(type.getElementType()), pair(getPanelPair(element)),
        bits(element.getIntOrFloatBitWidth()) {}

  Value copy(OpBuilder &b, Value dest) {
    bool isTransposed = source.columnDim == 1;
    // Rows of the panel that a step makes.
    int64_t step = isTransposed ? getBlockLength() / pair : 1;
    int64_t numWhole = source.length / (step * pair) * step;
    auto build = [&](OpBuilder &b, Value row, int64_t count, Value dest) {
      return isTransposed ? copyBlock(b, row, count, dest)
                          : copyRow(b, row, count, dest);
    };
    if (numWhole > 0)
      dest = scf::ForOp::create(
                 b, loc, buildIndex(b, loc, 0), buildIndex(b, loc, numWhole),
                 buildIndex(b, loc, step), dest,
                 [&](OpBuilder &b, Location, Value row, ValueRange dest) {
                   scf::YieldOp::create(b, loc,
                                        build(b, row, step * pair, dest[0]));
                 })
                 .getResult(0);
    int64_t rest = source.length - numWhole * pair;
    return rest ? build(b, buildIndex(b, loc, numWhole), rest, dest) : dest;
  }

private:
  const PanelSource &source;
  Location loc;
  int64_t lanes;
  Value expert, panel;
  int64_t numColumns;
  RankedTensorType type;
  Type element;
  int64_t pair, bits;

  /// Elements of k that fill a register.
  int64_t getBlockLength() const { return lanes * 32 / bits; }

  /// A vector of as many bits.
  Value bitcast(OpBuilder &b, Value vector, Type element) {
    auto from = cast<VectorType>(vector.getType());
    int64_t size = from.getNumElements() * from.getElementTypeBitWidth() /
                   element.getIntOrFloatBitWidth();
    return vector::BitCastOp::create(b, loc, VectorType::get({size}, element),
                                     vector);
  }

  Value buildZeros(OpBuilder &b, int64_t size, unsigned width) {
    auto type = VectorType::get({size}, b.getIntegerType(width));
    return arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  }

  Value shuffle(OpBuilder &b, Value x, Value y,
                function_ref<int64_t(int64_t)> lane, int64_t size) {
    SmallVector<int64_t> mask = llvm::map_to_vector(
        llvm::seq<int64_t>(0, size), [&](int64_t i) { return lane(i); });
    return vector::ShuffleOp::create(b, loc, x, y, mask);
  }

  /// `scale` · x + `offset`.
  Value buildLinear(OpBuilder &b, Value x, int64_t scale, int64_t offset) {
    AffineExpr d = b.getAffineDimExpr(0);
    return getValueOrCreateConstantIndexOp(
        b, loc,
        affine::makeComposedFoldedAffineApply(b, loc, d * scale + offset,
                                              {OpFoldResult(x)}));
  }

  /// `count` elements from `at` on along the last dimension, as bits; zeros
  /// follow up to `size`. Where they are fewer, the last index is a constant.
  Value load(OpBuilder &b, SmallVector<Value> at, int64_t count, int64_t size) {
    auto read = [&](int64_t size) {
      Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(element));
      Value vector = vector::TransferReadOp::create(
          b, loc, VectorType::get({size}, element), source.tensor, at, none,
          ArrayRef<bool>{true});
      return bitcast(b, vector, b.getIntegerType(bits));
    };
    if (count == size)
      return read(size);
    Value zeros = buildZeros(b, size, bits);
    int64_t end = type.getDimSize(2);
    if (end < size)
      return shuffle(
          b, read(count), zeros,
          [&](int64_t i) { return i < count ? i : count + i; }, size);
    int64_t start = *getConstantIntValue(at.back());
    int64_t earlier = std::min(start, end - size);
    at.back() = buildIndex(b, loc, earlier);
    return shuffle(
        b, read(size), zeros,
        [&](int64_t i) { return i < count ? start - earlier + i : size + i; },
        size);
  }

  Value store(OpBuilder &b, Value vector, Value dest, Value row,
              int64_t column) {
    SmallVector<Value> at = {row, buildIndex(b, loc, column)};
    return vector::TransferWriteOp::create(b, loc, bitcast(b, vector, element),
                                           dest, at, ArrayRef<bool>{true})
        .getResult();
  }

  /// A block of `count` elements of k of the 32 columns: square by square, so
  /// that each stays in registers.
  Value copyBlock(OpBuilder &b, Value row, int64_t count, Value dest) {
    if (32 / bits > pair) {
      for (int64_t first = 0; first < kPanelColumns; first += 2 * lanes)
        dest = copyHalves(b, row, count, first, dest);
      return dest;
    }
    for (int64_t first = 0; first < kPanelColumns; first += lanes) {
      SmallVector<Value> square = loadSquare(b, row, count, first);
      int64_t numRows = llvm::divideCeil(count, pair);
      for (int64_t i = 0; i < numRows; ++i)
        dest =
            store(b, square[i], dest, buildLinear(b, row, 1, i), first * pair);
    }
    return dest;
  }

  /// Two squares whose lanes hold two elements of k, of rows of their own.
  Value copyHalves(OpBuilder &b, Value row, int64_t count, int64_t first,
                   Value dest) {
    SmallVector<Value> left = loadSquare(b, row, count, first);
    SmallVector<Value> right = loadSquare(b, row, count, first + lanes);
    for (int64_t i = 0; i < count; ++i) {
      Value columns = shuffle(
          b, bitcast(b, left[i / 2], b.getIntegerType(bits)),
          bitcast(b, right[i / 2], b.getIntegerType(bits)),
          [&](int64_t lane) { return 2 * lane + i % 2; }, 2 * lanes);
      dest = store(b, columns, dest, buildLinear(b, row, 1, i), first);
    }
    return dest;
  }

  /// Columns from `first` of the panel on, `lanes` of them, across k.
  SmallVector<Value> loadSquare(OpBuilder &b, Value row, int64_t count,
                                int64_t first) {
    return transposeSquare(b, loc, loadColumns(b, row, count, first));
  }

  /// `lanes` columns from `first` of the panel on, each along k.
  SmallVector<Value> loadColumns(OpBuilder &b, Value row, int64_t count,
                                 int64_t first) {
    SmallVector<Value> vectors;
    for (int64_t column = first; column < first + lanes; ++column) {
      if (column >= numColumns) {
        vectors.push_back(buildZeros(b, lanes, 32));
        continue;
      }
      Value n = buildLinear(b, panel, kPanelColumns * source.stride,
                            column * source.stride + source.first);
      Value loaded = load(b, {expert, n, buildLinear(b, row, pair, 0)}, count,
                          getBlockLength());
      vectors.push_back(bitcast(b, loaded, b.getI32Type()));
    }
    return vectors;
  }

  /// Row `row` of the panel, of `count` elements of k beside each other.
  Value copyRow(OpBuilder &b, Value row, int64_t count, Value dest) {
    Value columns = loadRow(b, buildLinear(b, row, pair, 0));
    if (pair == 1)
      return store(b, columns, dest, row, 0);
    Value next = count > 1 ? loadRow(b, buildLinear(b, row, pair, 1))
                           : buildZeros(b, kPanelColumns, bits);
    Value both = vector::InterleaveOp::create(b, loc, columns, next);
    return store(b, both, dest, row, 0);
  }

  /// The columns of element `k`.
  Value loadRow(OpBuilder &b, Value k) {
    int64_t stride = source.stride, skipped = source.first % stride;
    Value n =
        numColumns == kPanelColumns
            ? buildLinear(b, panel, kPanelColumns * stride,
                          source.first - skipped)
            : buildIndex(b, loc,
                         (source.getNumPanels() - 1) * kPanelColumns * stride +
                             source.first - skipped);
    Value window =
        load(b, {expert, k, n}, numColumns * stride, kPanelColumns * stride);
    if (stride == 1)
      return window;
    return shuffle(
        b, window, window, [&](int64_t i) { return i * stride + skipped; },
        kPanelColumns);
  }
};

} // namespace

Value mlir::moe::buildPanelCopy(OpBuilder &builder, Location loc,
                                const PanelSource &source, int64_t lanes,
                                Value expert, Value panel, int64_t numColumns,
                                Value dest) {
  return PanelCopier(source, loc, lanes, expert, panel, numColumns)
      .copy(builder, dest);
}
