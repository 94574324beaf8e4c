//===- StageRing.h - Stages that are filled and read in turn ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Shared memory holds `numStages` stages, and after them two mbarriers for
// each: `full` completes when all of a stage's copies have arrived, `empty`
// when all warps that read it are done. Both sides walk the ring in the same
// order and keep a cursor: the stage they are at and the parity to wait for,
// which flips each time around. A reader waits for `full` with its cursor's
// parity, a writer for `empty` with the other one, so that its first time
// around does not wait.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_STAGERING_H
#define LIB_CONVERSION_GPU_STAGERING_H

#include "KernelBuilder.h"

namespace mlir::moe {

class StageRing {
public:
  StageRing(KernelBuilder &b, Value shared, int64_t numStages,
            int64_t stageBytes)
      : b(b), shared(shared), numStages(numStages), stageBytes(stageBytes) {}

  /// Shared memory that a ring needs, in bytes.
  static int64_t getBytes(int64_t numStages, int64_t stageBytes) {
    return numStages * (stageBytes + 2 * kBarrierBytes);
  }

  /// Initializes all mbarriers by one thread, with how many arrivals fill and
  /// empty a stage; a barrier of the block must follow.
  void init(Value thread, int64_t fills, int64_t empties);

  /// A stage's number and parity, both i32.
  struct Cursor {
    Value stage, parity;
  };
  Cursor start() { return {b.i32(0), b.i32(0)}; }
  Cursor next(Cursor at);
  /// The number of the stage `count` < numStages before.
  Value before(Value stage, int64_t count);

  Value getStage(Value stage) {
    return b.advance(shared, b.mul(stage, stageBytes));
  }
  Value getFull(Value stage) { return getBarrier(stage, 0); }

  void waitFull(Cursor at) { wait(getFull(at.stage), at.parity); }
  void waitEmpty(Cursor at) {
    wait(getBarrier(at.stage, numStages), b.bitXor(at.parity, 1));
  }
  void arriveFull(Value stage) { arrive(getFull(stage)); }
  void arriveEmpty(Value stage) { arrive(getBarrier(stage, numStages)); }
  /// Arrives at `full` and makes it wait for `bytes` of bulk copies.
  void expectBytes(Value stage, int64_t bytes);

private:
  static constexpr int64_t kBarrierBytes = 8;

  Value getBarrier(Value stage, int64_t first);
  void wait(Value barrier, Value parity);
  void arrive(Value barrier);

  KernelBuilder &b;
  Value shared;
  int64_t numStages, stageBytes;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_STAGERING_H
