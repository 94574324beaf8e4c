//===- StageRing.cpp - Stages that are filled and read in turn ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StageRing.h"

using namespace mlir;
using namespace mlir::moe;

void StageRing::init(Value thread, int64_t fills, int64_t empties) {
  b.onlyIf(b.equal(thread, 0), [&] {
    for (int64_t i = 0; i < numStages; ++i) {
      Value stage = b.i32(i);
      NVVM::MBarrierInitOp::create(b, getFull(stage), b.i32(fills), Value());
      NVVM::MBarrierInitOp::create(b, getBarrier(stage, numStages),
                                   b.i32(empties), Value());
    }
    NVVM::FenceMbarrierInitOp::create(b);
  });
}

StageRing::Cursor StageRing::next(Cursor at) {
  Value following = b.add(at.stage, 1);
  Value wraps = b.equal(following, numStages);
  Value flips = b.createOrFold<arith::ExtUIOp>(b.getI32Type(), wraps);
  return {b.select(wraps, b.i32(0), following), b.bitXor(at.parity, flips)};
}

Value StageRing::before(Value stage, int64_t count) {
  Value earlier = b.sub(stage, count);
  return b.select(b.less(earlier, 0), b.add(earlier, numStages), earlier);
}

void StageRing::expectBytes(Value stage, int64_t bytes) {
  NVVM::MBarrierArriveExpectTxOp::create(
      b, /*res=*/Type(), getFull(stage), b.i32(bytes), NVVM::MemScopeKind::CTA,
      /*relaxed=*/false, /*predicate=*/Value());
}

Value StageRing::getBarrier(Value stage, int64_t first) {
  Value barriers =
      b.advance(shared, numStages * stageBytes + first * kBarrierBytes);
  return b.advance(barriers, b.mul(stage, kBarrierBytes));
}

void StageRing::wait(Value barrier, Value parity) {
  // How long an attempt may sleep, in ns; the op tries until it succeeds.
  constexpr int64_t kPatience = 10000000;
  NVVM::MBarrierTryWaitParityOp::create(b, barrier, parity, b.i32(kPatience));
}

void StageRing::arrive(Value barrier) {
  NVVM::MBarrierArriveOp::create(b, /*res=*/Type(), barrier,
                                 /*count=*/Value());
}
