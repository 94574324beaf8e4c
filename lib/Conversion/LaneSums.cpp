//===- LaneSums.cpp - The sums of the lanes of many vectors ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tree that halves the number of vectors at each level: two vectors of
// partial sums become one with half as many partial sums of each. Level by
// level, the masks are those of unpacklo/hi of floats, of unpacklo/hi of
// doubles, and of shuffles of 128-bit blocks: one instruction each, none of
// which crosses blocks before it must. 24 vectors of 16 lanes take 52 shuffles
// and 26 additions, on ports that the products of the next tile leave free.
//
//===----------------------------------------------------------------------===//

#include "LaneSums.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// Lanes in a block of 128 bits.
static constexpr int64_t kBlock = 4;

/// The lanes of two vectors (the second one's come after the `lanes` of the
/// first) that a level adds to one another.
static std::pair<SmallVector<int64_t>, SmallVector<int64_t>>
getAddends(int64_t lanes, unsigned level) {
  SmallVector<int64_t> first, second;
  auto take = [&](SmallVector<int64_t> &mask, int64_t lane, int64_t count) {
    llvm::append_range(mask, llvm::seq(lane, lane + count));
  };
  if (level < llvm::Log2_64(kBlock)) {
    // Within a block: a half of it becomes that of two vectors, one after the
    // other, lane by lane first and then by two.
    int64_t run = 1 << level;
    for (int64_t block = 0; block < lanes; block += kBlock)
      for (int64_t lane = block; lane < block + kBlock / 2; lane += run)
        for (int64_t start : {lane, lanes + lane}) {
          take(first, start, run);
          take(second, start + kBlock / 2, run);
        }
    return {first, second};
  }
  for (int64_t block = 0; block < 2 * lanes; block += 2 * kBlock) {
    take(first, block, kBlock);
    take(second, block + kBlock, kBlock);
  }
  return {first, second};
}

/// One level of the tree for two vectors; either may be null, which is 0.
static Value addPair(OpBuilder &b, Location loc, Value x, Value y,
                     unsigned level) {
  if (!x)
    return Value();
  auto type = cast<VectorType>(x.getType());
  if (!y)
    y = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  auto [first, second] = getAddends(type.getNumElements(), level);
  return arith::AddFOp::create(b, loc,
                               vector::ShuffleOp::create(b, loc, x, y, first),
                               vector::ShuffleOp::create(b, loc, x, y, second));
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
