//===- GridBarrier.cpp - All blocks of a grid wait for each other ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the threads of a block write is before its arrival: the barrier of the
// block orders it before the store of thread 0, which releases all of it.
// Block 0 acquires, and releases in turn to all others, so that each sees what
// all wrote. One word a block and no atomic addition: nothing has to be zero
// at first.
//
//===----------------------------------------------------------------------===//

#include "GridBarrier.h"

using namespace mlir;
using namespace mlir::moe;

/// How long a thread sleeps between two looks, in ns.
static constexpr int64_t kPause = 20;
static constexpr StringLiteral kWholeDevice = "device";
static constexpr unsigned kFlagBytes = 8;

GridBarrier::GridBarrier(KernelBuilder &b, Value flags, Value ticket,
                         int64_t numThreads)
    : b(b), flags(flags), ticket(ticket), thread(b.threadId()),
      block(b.blockId()), numBlocks(b.numBlocks()), numThreads(numThreads) {}

void GridBarrier::publish(Value flag, Value number) {
  LLVM::StoreOp::create(b, number, flag, kFlagBytes, /*isVolatile=*/false,
                        /*isNonTemporal=*/false, /*isInvariantGroup=*/false,
                        LLVM::AtomicOrdering::release, kWholeDevice);
}

void GridBarrier::await(Value flag, Value number) {
  b.loopWhile(
      ValueRange(),
      [&](ValueRange) {
        Value seen = LLVM::LoadOp::create(
            b, b.getI64Type(), flag, kFlagBytes, /*isVolatile=*/false,
            /*isNonTemporal=*/false, /*isInvariant=*/false,
            /*isInvariantGroup=*/false, LLVM::AtomicOrdering::acquire,
            kWholeDevice);
        return arith::CmpIOp::create(b, arith::CmpIPredicate::ne, seen, number)
            .getResult();
      },
      [&](ValueRange) {
        NVVM::NanosleepOp::create(b, b.i32(kPause));
        return KernelBuilder::Values();
      });
}

void GridBarrier::forEachOther(function_ref<void(Value)> visit) {
  b.loop(b.add(thread, 1), numBlocks, b.i32(numThreads), ValueRange(),
         [&](Value other, ValueRange) {
           visit(other);
           return KernelBuilder::Values();
         });
}

void GridBarrier::wait() {
  Value number = b.add(ticket, ++count);
  b.barrier();
  b.ifElse(
      b.equal(block, 0),
      [&] {
        forEachOther([&](Value other) { await(arrived(other), number); });
        b.barrier();
        forEachOther([&](Value other) { publish(left(other), number); });
        return KernelBuilder::Values();
      },
      [&] {
        b.onlyIf(b.equal(thread, 0), [&] {
          publish(arrived(block), number);
          await(left(block), number);
        });
        b.barrier();
        return KernelBuilder::Values();
      });
}

void GridBarrier::reset() {
  // Block 0 has seen the last arrival, or this block would not be here; and
  // nobody else looks at what it is told.
  Value isOther = arith::CmpIOp::create(b, arith::CmpIPredicate::ne, block,
                                        b.like(block, 0));
  b.onlyIf(b.both(b.equal(thread, 0), isOther), [&] {
    b.store(b.i64(0), arrived(block));
    b.store(b.i64(0), left(block));
  });
}
