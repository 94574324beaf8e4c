//===- BlockShuffles.h - Shuffles that are one instruction each -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_BLOCKSHUFFLES_H
#define LIB_CONVERSION_CPU_BLOCKSHUFFLES_H

#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// Lanes of 32 bits in a block of 128 bits, which most shuffles do not leave.
constexpr int64_t kShuffleBlock = 4;

/// Two masks that share the lanes of two vectors between two others.
struct BlockShuffles {
  SmallVector<int64_t> first, second;
};

/// The masks of a level of a tree over 2^n lanes of 32 bits, n ≥ 2:
///   0  x0 y0 x1 y1 and x2 y2 x3 y3 of each block: unpacklo/hi of floats;
///   1  x0 x1 y0 y1 and x2 x3 y2 y3 of each block: unpacklo/hi of doubles;
///   2… the even and the odd blocks, of x and then of y.
BlockShuffles getBlockShuffles(int64_t lanes, unsigned level);

/// What the two masks take from `x` and `y`.
std::pair<Value, Value> shufflePair(OpBuilder &builder, Location loc, Value x,
                                    Value y, const BlockShuffles &masks);

/// Turns a square of vectors, as many as each has lanes (a power of two, a
/// block at least): lane j of vector i becomes lane i of vector j.
SmallVector<Value> transposeSquare(OpBuilder &builder, Location loc,
                                   SmallVector<Value> vectors);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_BLOCKSHUFFLES_H
