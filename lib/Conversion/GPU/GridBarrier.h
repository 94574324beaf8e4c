//===- GridBarrier.h - All blocks of a grid wait for each other -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_GRIDBARRIER_H
#define LIB_CONVERSION_GPU_GRIDBARRIER_H

#include "KernelBuilder.h"

namespace mlir::moe {

/// A barrier of all blocks of a one-dimensional grid, which all run at the same
/// time. Each block has two flags, numbers of 64 bits in global memory:
///
///   block b   arrived[b] = ticket + n ─┐             ┌─▶ waits for left[b]
///   block 0     waits for all of them ◀┘ left[…] = same ┘
///
/// for its n-th barrier. `ticket` is a number that no other launch has, so that
/// what memory holds at first, whatever it is, is no arrival. The last barrier
/// of a launch is followed by reset(): a launch that is recorded as a graph has
/// the same ticket each time it is replayed.
class GridBarrier {
public:
  /// `flags` points to two i64 for each block; `ticket` is an i64. All threads
  /// of all blocks build and run the same calls.
  GridBarrier(KernelBuilder &b, Value flags, Value ticket, int64_t numThreads);

  static int64_t getNumFlags(int64_t numBlocks) { return 2 * numBlocks; }

  /// Waits for all threads of the grid. They see what was written before.
  void wait();
  /// After the last barrier: no flag is an arrival any more.
  void reset();

private:
  KernelBuilder &b;
  Value flags, ticket, thread, block, numBlocks;
  int64_t numThreads, count = 0;

  Value arrived(Value block) { return flag(block); }
  Value left(Value block) { return flag(b.add(numBlocks, block)); }
  Value flag(Value number) {
    return b.element(flags, b.getI64Type(), b.widen(number));
  }
  void publish(Value flag, Value number);
  void await(Value flag, Value number);
  /// Calls `visit` with the blocks but this one, block 0, spread over threads.
  void forEachOther(function_ref<void(Value)> visit);
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_GRIDBARRIER_H
