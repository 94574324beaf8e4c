//===- LaneSums.cpp - The sums of the lanes of many vectors ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tree that halves the number of vectors at each level: two vectors of
// partial sums become one with half as many partial sums of each. 24 vectors of
// 16 lanes take 52 shuffles and 26 additions, on ports that the products of the
// next tile leave free.
//
//===----------------------------------------------------------------------===//

#include "LaneSums.h"

#include "BlockShuffles.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// One level of the tree for two vectors; either may be null, which is 0.
static Value addPair(OpBuilder &b, Location loc, Value x, Value y,
                     unsigned level) {
  if (!x)
    return Value();
  auto type = cast<VectorType>(x.getType());
  if (!y)
    y = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  auto [first, second] =
      shufflePair(b, loc, x, y, getBlockShuffles(type.getNumElements(), level));
  return arith::AddFOp::create(b, loc, first, second);
}

SmallVector<Value> mlir::moe::buildLaneSums(OpBuilder &builder, Location loc,
                                            ArrayRef<Value> vectors,
                                            int64_t numColumns) {
  int64_t lanes = cast<VectorType>(vectors[0].getType()).getNumElements();
  auto width = static_cast<int64_t>(llvm::PowerOf2Ceil(numColumns));
  auto numRows = static_cast<int64_t>(vectors.size()) / numColumns;
  assert(width <= lanes && "a row's sums fit a vector");
  SmallVector<Value> sums(llvm::PowerOf2Ceil(numRows * width));
  for (int64_t i = 0; i < numRows * numColumns; ++i)
    sums[i / numColumns * width + i % numColumns] = vectors[i];
  for (unsigned level = 0; level < llvm::Log2_64(lanes); ++level) {
    SmallVector<Value> next;
    if (sums.size() == 1)
      next.push_back(addPair(builder, loc, sums[0], sums[0], level));
    for (size_t i = 0; i + 1 < sums.size(); i += 2)
      next.push_back(addPair(builder, loc, sums[i], sums[i + 1], level));
    sums = std::move(next);
  }
  SmallVector<Value> rows;
  for (int64_t lane = 0; lane < numRows * width; lane += width)
    rows.push_back(vector::ExtractStridedSliceOp::create(
        builder, loc, sums[lane / lanes], lane % lanes, width, 1));
  return rows;
}
