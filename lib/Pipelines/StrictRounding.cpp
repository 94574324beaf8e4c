//===- StrictRounding.cpp - Casts of floats that stay -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Pipelines/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_STRICTROUNDING
#include "moe/Pipelines/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {
struct StrictRounding : moe::impl::StrictRoundingBase<StrictRounding> {
  void runOnOperation() override {
    getOperation()->walk([](arith::ArithFastMathInterface op) {
      if (!isa<arith::ExtFOp, arith::TruncFOp>(op.getOperation()))
        return;
      arith::FastMathFlagsAttr flags = op.getFastMathFlagsAttr();
      if (!flags)
        return;
      auto strict = flags.getValue() & ~arith::FastMathFlags::contract;
      op->setAttr(op.getFastMathAttrName(),
                  arith::FastMathFlagsAttr::get(op.getContext(), strict));
    });
  }
};
} // namespace
