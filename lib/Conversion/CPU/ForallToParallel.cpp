//===- ForallToParallel.cpp - Tasks of scf.forall as scf.parallel ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Transforms.h"
#include "mlir/Interfaces/CallInterfaces.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFORALLTOPARALLEL
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

/// Whether the tasks of `loop` are fit for threads: they need no memory of their
/// own, and start no parallel loops in turn.
static bool hasPlainTasks(scf::ForallOp loop) {
  if (loop.getRank() != 1 || loop.getNumResults() != 0 ||
      loop->getParentOfType<scf::ForallOp>() ||
      loop->getParentOfType<scf::ParallelOp>())
    return false;
  WalkResult found = loop.getBody()->walk([](Operation *op) {
    bool isObstacle = isa<memref::AllocOp, scf::ForallOp, scf::ParallelOp,
                          CallOpInterface>(op) ||
                      isa_and_nonnull<moe::MoEDialect>(op->getDialect());
    return isObstacle ? WalkResult::interrupt() : WalkResult::advance();
  });
  return !found.wasInterrupted();
}

namespace {
struct ForallToParallelPass
    : moe::impl::MoEForallToParallelBase<ForallToParallelPass> {
  void runOnOperation() override {
    SmallVector<scf::ForallOp> loops;
    getOperation()->walk([&](scf::ForallOp loop) {
      if (hasPlainTasks(loop))
        loops.push_back(loop);
    });
    IRRewriter rewriter(&getContext());
    for (scf::ForallOp loop : loops) {
      rewriter.setInsertionPoint(loop);
      if (failed(scf::forallToParallelLoop(rewriter, loop)))
        return signalPassFailure();
    }
  }
};
} // namespace
