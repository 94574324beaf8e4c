//===- KeepLoopAnnotations.cpp - What loops say, on their branches --------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Upstream carries `llvm.loop_annotation` of an scf.for along to the branch
// back to the loop's head, as a discardable attribute. What is translated to
// LLVM IR is the branch's own attribute.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "moe/Pipelines/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_KEEPLOOPANNOTATIONS
#include "moe/Pipelines/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

static constexpr StringLiteral kDiscardable = "llvm.loop_annotation";

template <typename Branch>
static void keepAnnotation(Branch op) {
  auto annotation =
      op->template getAttrOfType<LLVM::LoopAnnotationAttr>(kDiscardable);
  if (!annotation)
    return;
  op->removeAttr(kDiscardable);
  op.setLoopAnnotationAttr(annotation);
}

namespace {
struct KeepLoopAnnotationsPass
    : moe::impl::KeepLoopAnnotationsBase<KeepLoopAnnotationsPass> {
  void runOnOperation() override {
    getOperation()->walk([](LLVM::BrOp op) { keepAnnotation(op); });
    getOperation()->walk([](LLVM::CondBrOp op) { keepAnnotation(op); });
  }
};
} // namespace
