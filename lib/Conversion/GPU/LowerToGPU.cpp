//===- LowerToGPU.cpp - Kernel-level ops as GPU kernels -------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CombineKernel.h"
#include "KernelModule.h"
#include "LowerRouting.h"
#include "MmaSyncKernel.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
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
// moe.grouped_matmul
//===----------------------------------------------------------------------===//

static KernelParameters collectParameters(const MatmulProblem &problem) {
  KernelParameters parameters;
  parameters.addBuffer(problem.offsets);
  if (problem.readsSource())
    parameters.addBuffer(problem.source);
  parameters.addBuffer(problem.rows.buffer);
  for (const LinearAccess &weight : problem.weights)
    parameters.addBuffer(weight.buffer);
  for (const LinearAccess &extra : problem.extras)
    parameters.addBuffer(extra.buffer);
  for (const LinearAccess &result : problem.results)
    parameters.addBuffer(result.buffer);
  for (Value scalar : problem.scalars)
    parameters.addScalar(scalar);
  return parameters;
}

/// A block a tile, and at least one: an expert adds at most one tile of rows
/// that is not full, and none if it has no rows.
static Value buildNumBlocks(ImplicitLocOpBuilder &b,
                            const MatmulProblem &problem, GPUMatmulAttr config,
                            Value numExperts) {
  Value rows = buildSize(b, problem.results[0].buffer, 0);
  Value full =
      arith::DivUIOp::create(b, rows, buildConstant(b, config.getTileRows()));
  Value bound = arith::MinUIOp::create(
      b, rows, arith::AddIOp::create(b, full, numExperts));
  int64_t columnTiles =
      llvm::divideCeil(problem.numColumns, config.getTileColumns());
  Value blocks = arith::MulIOp::create(b, bound, buildConstant(b, columnTiles));
  return arith::MaxUIOp::create(b, blocks, buildConstant(b, 1));
}

static void lowerMatmul(const MatmulProblem &problem, GPUMatmulAttr config,
                        KernelModule &kernels) {
  Matmul op = problem.op;
  ImplicitLocOpBuilder b(op.getLoc(), op);
  KernelParameters parameters = collectParameters(problem);
  Value numExperts = arith::SubIOp::create(b, buildSize(b, problem.offsets, 0),
                                           buildConstant(b, 1));
  Value parameter;
  if (ShapedType::isDynamic(op.getNumExperts())) {
    parameter = toI32(b, numExperts);
    parameters.addScalar(parameter);
  }
  SymbolRefAttr kernel = kernels.addKernel(
      op, "matmul", config.getNumThreads(), parameters,
      [&](KernelBuilder &b, const IRMapping &toDevice, Value shared) {
        Value count =
            parameter ? toDevice.lookup(parameter) : b.i32(op.getNumExperts());
        buildMmaSyncKernel(b, problem, config, toDevice, count, shared);
      });
  buildLaunch(b, kernel, buildNumBlocks(b, problem, config, numExperts),
              config.getNumThreads(), getSharedBytes(problem, config),
              parameters);
  op.erase();
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
    auto config = op->getAttrOfType<GPUMatmulAttr>(GPUMatmulAttr::kName);
    if (!config)
      return success();
    llvm::Expected<MatmulProblem> problem = analyzeMatmul(op);
    if (!problem)
      return op.emitOpError("has a gpu_matmul, but no kernel can do it: ")
             << llvm::toString(problem.takeError());
    if (llvm::Error error = checkConfig(*problem, config))
      return op.emitOpError("cannot use its gpu_matmul: ")
             << llvm::toString(std::move(error));
    lowerMatmul(*problem, config, kernels);
    return success();
  }

  void lower(CombineOp op, KernelModule &kernels) {
    llvm::Expected<CombinePlan> plan = planCombine(op);
    if (plan)
      return lowerCombine(op, *plan, kernels);
    decline(op, "gpu-combine", plan.takeError());
  }

  void lowerRoute(Operation *op, KernelModule &kernels) {
    if (llvm::Error error = lowerRouting(op, kernels))
      decline(op, "gpu-routing", std::move(error));
  }

  void decline(Operation *op, StringRef what, llvm::Error why) {
    remark::missed(op->getLoc(),
                   remark::RemarkOpts::name(what).category(getName()))
        << llvm::toString(std::move(why));
  }
};
} // namespace
