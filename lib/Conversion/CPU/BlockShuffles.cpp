//===- BlockShuffles.cpp - Shuffles that are one instruction each ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BlockShuffles.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

BlockShuffles mlir::moe::getBlockShuffles(int64_t lanes, unsigned level) {
  BlockShuffles masks;
  auto take = [](SmallVector<int64_t> &mask, int64_t lane, int64_t count) {
    llvm::append_range(mask, llvm::seq(lane, lane + count));
  };
  if (level < llvm::Log2_64(kShuffleBlock)) {
    int64_t run = int64_t(1) << level, half = kShuffleBlock / 2;
    for (int64_t block = 0; block < lanes; block += kShuffleBlock)
      for (int64_t lane = block; lane < block + half; lane += run)
        for (int64_t start : {lane, lanes + lane}) {
          take(masks.first, start, run);
          take(masks.second, start + half, run);
        }
    return masks;
  }
  for (int64_t block = 0; block < 2 * lanes; block += 2 * kShuffleBlock) {
    take(masks.first, block, kShuffleBlock);
    take(masks.second, block + kShuffleBlock, kShuffleBlock);
  }
  return masks;
}

std::pair<Value, Value> mlir::moe::shufflePair(OpBuilder &builder, Location loc,
                                               Value x, Value y,
                                               const BlockShuffles &masks) {
  return {vector::ShuffleOp::create(builder, loc, x, y, masks.first),
          vector::ShuffleOp::create(builder, loc, x, y, masks.second)};
}

SmallVector<Value> mlir::moe::transposeSquare(OpBuilder &builder, Location loc,
                                              SmallVector<Value> vectors) {
  size_t lanes = vectors.size();
  for (unsigned level = 0; (size_t(1) << level) < lanes; ++level) {
    BlockShuffles masks = getBlockShuffles(lanes, level);
    size_t distance = size_t(1) << level;
    for (size_t group = 0; group < lanes; group += 2 * distance)
      for (size_t i = group; i < group + distance; ++i)
        std::tie(vectors[i], vectors[i + distance]) =
            shufflePair(builder, loc, vectors[i], vectors[i + distance], masks);
  }
  // Within blocks, the second bit of a column came first.
  for (size_t i = 0; i < lanes; i += kShuffleBlock)
    std::swap(vectors[i + 1], vectors[i + 2]);
  return vectors;
}
