//===- ExpandSmallFloats.cpp - Floats of 8 and 4 bits as f32 --------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// LLVM has no types for them. Vector code of grouped matmuls has extended its
// vectors by then, where the machine has a shorter way.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/SmallFloat.h"
#include "moe/Pipelines/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_EXPANDSMALLFLOATS
#include "moe/Pipelines/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {
struct ExpandSmallFloatsPass
    : moe::impl::ExpandSmallFloatsBase<ExpandSmallFloatsPass> {
  void runOnOperation() override {
    getOperation()->walk([](arith::ExtFOp op) {
      if (!isSmallFloat(op.getIn().getType()))
        return;
      OpBuilder b(op);
      Value wide = buildSmallFloatExtension(b, op.getLoc(), op.getIn(),
                                            /*hasHalf=*/false);
      Type type = op.getType();
      unsigned bits = getElementTypeOrSelf(type).getIntOrFloatBitWidth();
      if (bits < 32)
        wide = arith::TruncFOp::create(b, op.getLoc(), type, wide);
      else if (bits > 32)
        wide = arith::ExtFOp::create(b, op.getLoc(), type, wide);
      op.replaceAllUsesWith(wide);
      op.erase();
    });
  }
};
} // namespace
