//===- WarpMatmul.h - What a warp does with a stage by mma.sync -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A stage is a tile of rows, then one of each weight, all of them rows of 128
// bytes. Everything is counted in pieces of 16 bytes, whatever the type: an
// mma.sync takes two pieces of k of 16 rows and of 8 columns.
//
// Factors of f32 are each split into two of tf32, x ≈ big + small, and a
// product is small·big + big·small + big·big, three mma.sync. What tensor cores
// add up they round toward zero; so the three start from zero, and their result
// is added to the sums by ordinary additions, which round to nearest.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_WARPMATMUL_H
#define LIB_CONVERSION_GPU_WARPMATMUL_H

#include "KernelBuilder.h"
#include "MatmulProblem.h"

namespace mlir::moe {

/// What mma.sync takes: 16 rows, 8 columns.
constexpr int64_t kMmaRows = 16, kMmaColumns = 8;

/// A warp's part of a tile of sums.
class WarpMatmul {
public:
  WarpMatmul(KernelBuilder &b, const MatmulProblem &problem,
             GPUMatmulAttr config, Value thread);

  int64_t getRowsBytes() const;
  int64_t getWeightBytes() const;
  int64_t getStageBytes() const;

  /// Of a lane, for all products.
  int64_t getNumSums() const { return indexOf(numWeights, 0, 0); }
  /// Adds the products of the stage at `stage` to `sums`.
  void multiplyStage(Value stage, MutableArrayRef<Value> sums);

  /// A lane has pairs of sums of two columns (MatmulProblem::getLaneColumns):
  /// in each of getNumRowsOfLane() rows, `getNumPairs()` of them.
  int64_t getNumRowsOfLane() const { return 2 * rowFragments; }
  int64_t getNumPairs() const {
    return columnFragments / problem.getColumnRatio();
  }
  /// In the tile.
  Value getRow(int64_t row) const;
  /// The first column of a pair, in the tile.
  Value getColumn(int64_t pair) const;
  /// Of each product.
  SmallVector<std::array<Value, 2>> getPairs(ArrayRef<Value> sums, int64_t row,
                                             int64_t pair) const;

private:
  /// What a lane gives to an mma.sync: four registers of rows, or the two of 8
  /// columns and the two of the next 8.
  using Fragment = SmallVector<Value, 4>;
  /// The parts of a fragment: itself or, of f32, big and small.
  using Parts = SmallVector<Fragment, 2>;
  /// What is multiplied: rows with the first or second 8 columns of weights,
  /// and where the four sums are among all.
  struct Factors {
    const Parts *rows, *weights;
    int64_t half, place;
    ValueRange getWeights(int64_t part) const {
      return ValueRange((*weights)[part]).slice(2 * half, 2);
    }
  };

  Fragment loadMatrices(Value pointer, NVVM::MMALayout layout);
  SmallVector<Parts> loadRows(Value stage, int64_t piece);
  Parts loadWeights(Value tile, int64_t columns, int64_t piece);
  Fragment loadWeightsAlongSum(Value tile, int64_t columns, int64_t piece);
  Fragment loadWeightsAlongColumns(Value tile, int64_t columns, int64_t piece);
  Fragment loadWordsAlongColumns(Value tile, int64_t columns, int64_t piece);

  Parts split(const Fragment &words);
  Value toOperand(Value word);
  SmallVector<Value, 4> multiply(ValueRange rows, ValueRange weights,
                                 ValueRange sums);
  void multiplySplit(ArrayRef<Factors> factors, MutableArrayRef<Value> sums);
  void multiplyFactors(ArrayRef<Factors> factors, MutableArrayRef<Value> sums);

  /// Where the four sums of a fragment are among all.
  int64_t indexOf(int64_t weight, int64_t row, int64_t column) const {
    return 4 * ((weight * rowFragments + row) * columnFragments + column);
  }
  /// True if lanes read pairs of columns of f32, which changes the columns that
  /// their sums are of.
  bool readsColumnPairs() const { return isF32 && !problem.sumIsLast; }

  KernelBuilder &b;
  const MatmulProblem &problem;
  GPUMatmulAttr config;
  bool isF32;
  int64_t numWeights, rowFragments, columnFragments;
  Value lane, warpRow, warpColumn;
  /// The first column of the results that the warp's first column is for.
  Value resultColumn;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_WARPMATMUL_H
