//===- DecomposeForGPU.cpp - Ops that have no kernel ----------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CombineKernel.h"
#include "LogitsKernel.h"
#include "PlanKernel.h"
#include "SelectKernel.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEDECOMPOSEFORGPU
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether moe-lower-to-gpu, or moe-grouped-matmul-to-parallel-loops, takes
/// `op` when it is on memrefs in the default layout.
static bool hasKernel(Operation *op) {
  auto holds = [](auto plan) {
    if (plan)
      return true;
    llvm::consumeError(plan.takeError());
    return false;
  };
  return llvm::TypeSwitch<Operation *, bool>(op)
      .Case([](GroupedMatmulOp matmul) { return !matmul.isCombining(); })
      .Case([&](CombineOp combine) { return holds(planCombine(combine)); })
      .Case([&](PlanOp plan) { return holds(analyzePlan(plan)); })
      .Case([&](GateOp gate) { return holds(analyzeSelect(gate)); })
      .Case([&](RouteOp route) {
        return holds(analyzeLogits(route)) && holds(analyzeSelect(route)) &&
               holds(analyzePlan(route));
      })
      .Default([](Operation *) { return false; });
}

namespace {
struct DecomposeForGPUPass
    : moe::impl::MoEDecomposeForGPUBase<DecomposeForGPUPass> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation()->walk([&](linalg::AggregatedOpInterface op) {
      if (isa_and_nonnull<MoEDialect>(op->getDialect()) && !hasKernel(op))
        ops.push_back(op);
    });
    IRRewriter rewriter(&getContext());
    for (Operation *op : ops)
      if (failed(decomposeOp(rewriter, op))) {
        op->emitOpError("has no decomposition");
        return signalPassFailure();
      }
  }
};
} // namespace
