//===- LowerToGPU.cpp - Kernel-level ops as GPU kernels -------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CombineKernel.h"
#include "DefaultLayout.h"
#include "KernelModule.h"
#include "LowerRouting.h"
#include "MatmulLaunch.h"
#include "MatmulProblem.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Remarks.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOWERTOGPU
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

static Value buildSize(ImplicitLocOpBuilder &b, Value buffer, int64_t dim) {
  return memref::DimOp::create(b, buffer, dim);
}

static Value toI32(ImplicitLocOpBuilder &b, Value index) {
  return arith::IndexCastOp::create(b, b.getI32Type(), index);
}

static Value buildConstant(ImplicitLocOpBuilder &b, int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

//===----------------------------------------------------------------------===//
// moe.combine
//===----------------------------------------------------------------------===//

static void lowerCombine(CombineOp op, const CombinePlan &plan,
                         KernelModule &kernels) {
  ImplicitLocOpBuilder b(op.getLoc(), op);
  KernelParameters parameters;
  for (Value buffer : {op.getRows(), op.getSlots(), op.getWeights(),
                       op.getBase(), op.getInits()[0]})
    parameters.addBuffer(buffer);
  Value tokens = buildSize(b, op.getSlots(), 0);
  Value numTokens = toI32(b, tokens);
  Value numRows = toI32(b, buildSize(b, op.getRows(), 0));
  parameters.addScalar(numTokens);
  parameters.addScalar(numRows);
  SymbolRefAttr kernel = kernels.addKernel(
      op, "combine", kCombineThreads, parameters,
      [&](KernelBuilder &b, const IRMapping &toDevice, Value) {
        buildCombineKernel(b, op, plan, toDevice, toDevice.lookup(numTokens),
                           toDevice.lookup(numRows));
      });
  Value blocks =
      arith::MulIOp::create(b, tokens, buildConstant(b, plan.numColumnBlocks));
  blocks = arith::MaxUIOp::create(b, blocks, buildConstant(b, 1));
  buildLaunch(b, kernel, blocks, kCombineThreads, /*sharedBytes=*/0,
              parameters);
  op.erase();
}

//===----------------------------------------------------------------------===//
// Pass
//===----------------------------------------------------------------------===//

namespace {
struct LowerToGPUPass : moe::impl::MoELowerToGPUBase<LowerToGPUPass> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if ((isa<Matmul, CombineOp>(op) || isRouting(op)) &&
          cast<DestinationStyleOpInterface>(op).hasPureBufferSemantics())
        ops.push_back(op);
    });
    KernelModule kernels(getOperation());
    for (Operation *op : ops) {
      if (auto combine = dyn_cast<CombineOp>(op))
        lower(combine, kernels);
      else if (isRouting(op))
        lowerRoute(op, kernels);
      else if (failed(lower(cast<Matmul>(op), kernels)))
        return signalPassFailure();
    }
  }

  /// Only with a configuration: what has none was declined.
  LogicalResult lower(Matmul op, KernelModule &kernels) {
    Attribute config = op->getAttr(GPUMatmulAttr::kName);
    if (!config)
      return success();
    // Weights are large: they are copied only if nothing else helps.
    copyToDefaultLayout(op, {op.getOffsets(), op.getSource()});
    if (llvm::errorToBool(analyzeMatmul(op).takeError()))
      copyToDefaultLayout(op);
    if (auto mmaSync = dyn_cast_or_null<GPUMatmulAttr>(config))
      return lowerMatmul(op, mmaSync, kernels);
    if (auto wgmma = dyn_cast_or_null<GPUWgmmaAttr>(config))
      return lowerMatmul(op, wgmma, kernels);
    return success();
  }

  void lower(CombineOp op, KernelModule &kernels) {
    llvm::Expected<CombinePlan> plan = planCombine(op);
    if (!plan && copyToDefaultLayout(op)) {
      llvm::consumeError(plan.takeError());
      plan = planCombine(op);
    }
    if (plan)
      return lowerCombine(op, *plan, kernels);
    decline(op, "gpu-combine", plan.takeError());
  }

  void lowerRoute(Operation *op, KernelModule &kernels) {
    llvm::Error error = lowerRouting(op, kernels);
    if (error && copyToDefaultLayout(op)) {
      llvm::consumeError(std::move(error));
      error = lowerRouting(op, kernels);
    }
    if (error)
      decline(op, "gpu-routing", std::move(error));
  }

  void decline(Operation *op, StringRef what, llvm::Error why) {
    remark::missed(op->getLoc(),
                   remark::RemarkOpts::name(what).category(getName()))
        << llvm::toString(std::move(why));
  }
};
} // namespace
