//===- ApproximateVectorMath.cpp - Functions of vectors as polynomials ----===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEAPPROXIMATEVECTORMATH
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

namespace {
struct ApproximateVectorMathPass
    : moe::impl::MoEApproximateVectorMathBase<ApproximateVectorMathPass> {
  void runOnOperation() override {
    SmallVector<Operation *> onVectors;
    getOperation()->walk([&](Operation *op) {
      if (isa<math::MathDialect>(op->getDialect()) &&
          llvm::all_of(op->getResultTypes(), llvm::IsaPred<VectorType>))
        onVectors.push_back(op);
    });
    RewritePatternSet patterns(&getContext());
    auto all = [](StringRef) { return true; };
    populateMathPolynomialApproximationPatterns(patterns, all);
    GreedyRewriteConfig config;
    config.setStrictness(GreedyRewriteStrictness::ExistingOps);
    if (failed(applyOpPatternsGreedily(onVectors, std::move(patterns), config)))
      signalPassFailure();
  }
};
} // namespace
