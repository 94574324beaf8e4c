//===- RelaxRounding.cpp - One rounding for each stored element -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOERELAXROUNDING
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static bool isNarrow(Type type) { return isa<BFloat16Type, Float16Type>(type); }

/// True if the op computes the same function of wider floats.
static bool isArithmetic(Operation &op) {
  if (isa<arith::CmpFOp, arith::SelectOp, arith::SIToFPOp, arith::UIToFPOp>(op))
    return true;
  return isa<arith::ArithDialect, math::MathDialect>(op.getDialect()) &&
         op.getNumRegions() == 0 &&
         op.hasTrait<OpTrait::SameOperandsAndResultType>();
}

namespace {
/// Repeats the arithmetic of a region in f32, beside what is there.
class RegionWidener {
public:
  explicit RegionWidener(Block &block)
      : block(block), f32(Float32Type::get(block.getParent()->getContext())) {}

  /// Returns the number of roundings that results no longer go through.
  int64_t widen() {
    for (Operation &op : llvm::make_early_inc_range(block.without_terminator()))
      widen(op);
    Operation *yield = block.getTerminator();
    OpBuilder b(yield);
    for (OpOperand &operand : yield->getOpOperands())
      if (Value value = wide.lookupOrNull(operand.get()))
        operand.set(arith::TruncFOp::create(b, yield->getLoc(),
                                            operand.get().getType(), value));
    return eraseDead();
  }

private:
  Block &block;
  Type f32;
  /// The f32 of narrow values.
  IRMapping wide;

  Value widened(OpBuilder &b, Location loc, Value value) {
    if (!isNarrow(value.getType()))
      return value;
    if (!wide.contains(value))
      wide.map(value, arith::ExtFOp::create(b, loc, f32, value).getResult());
    return wide.lookup(value);
  }

  void widen(Operation &op) {
    OpBuilder b(&op);
    b.setInsertionPointAfter(&op);
    if (auto truncate = dyn_cast<arith::TruncFOp>(op)) {
      if (truncate.getIn().getType().isF32() && isNarrow(truncate.getType()))
        wide.map(truncate.getOut(), truncate.getIn());
      return;
    }
    if (auto extend = dyn_cast<arith::ExtFOp>(op)) {
      if (extend.getType().isF32() && isNarrow(extend.getIn().getType()))
        extend.getOut().replaceAllUsesWith(
            widened(b, op.getLoc(), extend.getIn()));
      return;
    }
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      widenConstant(b, constant);
      return;
    }
    bool isNarrowOp = llvm::any_of(op.getOperandTypes(), isNarrow) ||
                      llvm::any_of(op.getResultTypes(), isNarrow);
    if (isNarrowOp && isArithmetic(op))
      repeat(b, op);
  }

  void widenConstant(OpBuilder &b, arith::ConstantOp constant) {
    auto attr = dyn_cast<FloatAttr>(constant.getValue());
    if (!attr || !isNarrow(attr.getType()))
      return;
    FloatAttr value =
        b.getF32FloatAttr(static_cast<float>(attr.getValueAsDouble()));
    wide.map(
        constant.getResult(),
        arith::ConstantOp::create(b, constant.getLoc(), value).getResult());
  }

  void repeat(OpBuilder &b, Operation &op) {
    SmallVector<Value> operands;
    for (Value operand : op.getOperands())
      operands.push_back(widened(b, op.getLoc(), operand));
    Operation *copy = b.clone(op);
    copy->setOperands(operands);
    for (auto [from, to] : llvm::zip(op.getResults(), copy->getResults())) {
      if (isNarrow(from.getType())) {
        to.setType(f32);
        wide.map(from, to);
      } else {
        from.replaceAllUsesWith(to);
      }
    }
  }

  int64_t eraseDead() {
    int64_t numRoundings = 0;
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (isOpTriviallyDead(&op)) {
        numRoundings += llvm::any_of(op.getResultTypes(), isNarrow) &&
                        !isa<arith::ConstantOp>(op);
        op.erase();
      }
    return numRoundings;
  }
};

struct RelaxRounding : moe::impl::MoERelaxRoundingBase<RelaxRounding> {
  void runOnOperation() override {
    getOperation()->walk([&](GroupedMatmulOp op) {
      numDropped += RegionWidener(op.getEpilogue().front()).widen();
      for (Region &region : op.getFactorRegions())
        if (!region.empty())
          numDropped += RegionWidener(region.front()).widen();
    });
  }
};
} // namespace
