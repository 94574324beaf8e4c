//===- SeparateFills.cpp - A fill of its own for each writer ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Pipelines/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_SEPARATEFILLS
#include "moe/Pipelines/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static bool isDestination(OpOperand &use) {
  auto op = dyn_cast<DestinationStyleOpInterface>(use.getOwner());
  return op && op.isDpsInit(&use);
}

/// Gives each op that writes to the result of `fill` a copy of the fill.
static void separate(linalg::FillOp fill) {
  auto empty = fill.getOutputs()[0].getDefiningOp<tensor::EmptyOp>();
  if (!empty || fill.getResult(0).hasOneUse())
    return;
  for (OpOperand &use :
       llvm::make_early_inc_range(fill.getResult(0).getUses())) {
    if (!isDestination(use))
      continue;
    OpBuilder builder(use.getOwner());
    IRMapping mapping;
    builder.clone(*empty, mapping);
    use.set(builder.clone(*fill, mapping)->getResult(0));
  }
  if (!fill->use_empty())
    return;
  fill.erase();
  if (empty->use_empty())
    empty.erase();
}

namespace {
struct SeparateFills : moe::impl::SeparateFillsBase<SeparateFills> {
  void runOnOperation() override {
    getOperation()->walk([](linalg::FillOp fill) {
      if (fill.hasPureTensorSemantics())
        separate(fill);
    });
  }
};
} // namespace
