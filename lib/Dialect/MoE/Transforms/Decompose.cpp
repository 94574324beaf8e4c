//===- Decompose.cpp - The pass moe-decompose -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEDECOMPOSE
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {
struct DecomposePass : moe::impl::MoEDecomposeBase<DecomposePass> {
  using Base::Base;

  void runOnOperation() override {
    // Collected first, so that ops of other dialects are never visited by a
    // driver that folds; inner ops come before the experts that hold them.
    SmallVector<Operation *> ops;
    getOperation()->walk([&](linalg::AggregatedOpInterface op) {
      if (!isa_and_nonnull<MoEDialect>(op->getDialect()))
        return;
      if (!keepConfigured || !op->hasAttr(LoweringConfigInterface::kName))
        ops.push_back(op);
    });
    IRRewriter rewriter(&getContext());
    for (Operation *op : ops) {
      if (failed(decomposeOp(rewriter, op))) {
        op->emitOpError("has no decomposition");
        return signalPassFailure();
      }
      ++numDecomposed;
    }
  }
};
} // namespace
