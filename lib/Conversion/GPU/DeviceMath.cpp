//===- DeviceMath.cpp - Functions that kernels can compute ----------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// NVIDIA's library of functions (libdevice) is part of the CUDA toolkit, which
// a build need not have. GPUs have an instruction for 2ˣ, and the rest is
// upstream's polynomials.
//
//===----------------------------------------------------------------------===//

#include "DeviceMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEDEVICEMATH
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// LLVM has an instruction, or a few, for these on NVPTX.
static bool isInstruction(Operation *op) {
  return isa<math::AbsFOp, math::AbsIOp, math::CeilOp, math::CopySignOp,
             math::CountLeadingZerosOp, math::CountTrailingZerosOp,
             math::CtPopOp, math::FloorOp, math::FmaOp, math::RoundEvenOp,
             math::RsqrtOp, math::SqrtOp, math::TruncOp>(op);
}

/// Upstream has a polynomial in f32.
static bool isPolynomial(Operation *op) {
  return isa<math::AcosOp, math::AsinOp, math::AtanOp, math::Atan2Op,
             math::CosOp, math::ErfOp, math::ExpM1Op, math::LogOp,
             math::Log1pOp, math::Log2Op, math::SinOp, math::TanhOp>(op);
}

static bool isExponential(Operation *op) {
  return isa<math::ExpOp, math::Exp2Op>(op);
}

Operation *mlir::moe::findOpWithoutDeviceCode(Region &region) {
  Operation *found = nullptr;
  region.walk([&](Operation *op) {
    bool isFloat = llvm::all_of(op->getResultTypes(), [](Type type) {
      return type.isIntOrIndexOrFloat() && !type.isF64();
    });
    bool known = isa<arith::ArithDialect>(op->getDialect()) ||
                 op->hasTrait<OpTrait::IsTerminator>() || isInstruction(op) ||
                 isPolynomial(op) || isExponential(op);
    if (known && isFloat)
      return WalkResult::advance();
    found = op;
    return WalkResult::interrupt();
  });
  return found;
}

bool mlir::moe::hasDeviceCode(Operation *op) {
  if (!isa<math::MathDialect>(op->getDialect()) || isInstruction(op))
    return true;
  auto is64Bit = [](Type type) { return getElementTypeOrSelf(type).isF64(); };
  return (isPolynomial(op) || isExponential(op)) &&
         llvm::none_of(op->getResultTypes(), is64Bit);
}

/// 2^(x · scale) by the instruction, within 2 ulp and what rounding the product
/// costs; subnormal results are 0.
static Value buildExp2(OpBuilder &b, Location loc, Value x, double scale) {
  if (scale != 1) {
    Value factor = arith::ConstantOp::create(
        b, loc, b.getF32FloatAttr(static_cast<float>(scale)));
    x = arith::MulFOp::create(b, loc, x, factor);
  }
  return LLVM::CallIntrinsicOp::create(
             b, loc, b.getF32Type(),
             b.getStringAttr("llvm.nvvm.ex2.approx.ftz.f"), ValueRange{x})
      .getResult(0);
}

/// True for x / (1 + exp(y)): sigmoid, and SiLU.
static bool isLogistic(arith::DivFOp op) {
  auto sum = op.getRhs().getDefiningOp<arith::AddFOp>();
  if (!sum || !op.getType().isF32())
    return false;
  auto isForm = [](Value one, Value power) {
    Operation *op = power.getDefiningOp();
    return matchPattern(one, m_OneFloat()) && op && isExponential(op);
  };
  return isForm(sum.getLhs(), sum.getRhs()) ||
         isForm(sum.getRhs(), sum.getLhs());
}

/// x · (1 / y) for y from 1 to +inf, within 1 ulp and what rounding the product
/// costs: two instructions, where a division that rounds once is a dozen and a
/// call. The exponential in y is not exact either.
static void buildQuotient(arith::DivFOp op) {
  OpBuilder b(op);
  Value inverse = NVVM::RcpApproxFtzF32Op::create(b, op.getLoc(), op.getType(),
                                                  op.getRhs());
  Value product = arith::MulFOp::create(b, op.getLoc(), op.getLhs(), inverse);
  op.replaceAllUsesWith(product);
  op.erase();
}

namespace {
struct DeviceMathPass : moe::impl::MoEDeviceMathBase<DeviceMathPass> {
  void runOnOperation() override {
    SmallVector<arith::DivFOp> quotients;
    getOperation()->walk([&](arith::DivFOp op) {
      if (isLogistic(op))
        quotients.push_back(op);
    });
    llvm::for_each(quotients, buildQuotient);
    SmallVector<Operation *> exponentials, polynomials;
    getOperation()->walk([&](Operation *op) {
      if (op->getNumResults() != 1 || !op->getResult(0).getType().isF32())
        return;
      if (isExponential(op))
        exponentials.push_back(op);
      else if (isPolynomial(op))
        polynomials.push_back(op);
    });
    for (Operation *op : exponentials) {
      OpBuilder b(op);
      double scale = isa<math::ExpOp>(op) ? llvm::numbers::log2e : 1;
      op->getResult(0).replaceAllUsesWith(
          buildExp2(b, op->getLoc(), op->getOperand(0), scale));
      op->erase();
    }
    RewritePatternSet patterns(&getContext());
    auto all = [](StringRef) { return true; };
    populateMathPolynomialApproximationPatterns(patterns, all);
    GreedyRewriteConfig config;
    config.setStrictness(GreedyRewriteStrictness::ExistingAndNewOps);
    if (failed(
            applyOpPatternsGreedily(polynomials, std::move(patterns), config)))
      signalPassFailure();
  }
};
} // namespace
