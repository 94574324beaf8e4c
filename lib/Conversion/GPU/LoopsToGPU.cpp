//===- LoopsToGPU.cpp - What no kernel was written for --------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A parallel loop becomes a kernel with a thread for each iteration; all else
// that touches memory a kernel of one thread, so that the host never does. The
// host keeps sizes, views and launches.
//
//===----------------------------------------------------------------------===//

#include "DeviceCapture.h"
#include "DeviceMath.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOOPSTOGPU
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static constexpr int64_t kLoopThreads = 256;

static bool holdsLaunches(Operation *op) {
  return op->walk([](gpu::LaunchFuncOp) { return WalkResult::interrupt(); })
      .wasInterrupted();
}

/// What a kernel cannot do, of `op` or in it, told as an error.
static LogicalResult checkKernelOp(Operation *op) {
  auto check = [](Operation *inner) -> WalkResult {
    if (isa<memref::AllocOp>(inner))
      return inner->emitOpError(
          "is memory that a kernel would have to allocate: its size depends on "
          "data, or it is not of the entry; make it depend on the sizes of "
          "arguments alone");
    if (isa<CallOpInterface>(inner))
      return inner->emitOpError(
          "calls a function from a kernel; inline it first");
    if (isa_and_nonnull<MoEDialect>(inner->getDialect()))
      return inner->emitOpError("has no kernel, and moe-decompose-for-gpu has "
                                "not taken it apart; run it first");
    if (!hasDeviceCode(inner))
      return inner->emitOpError(
          "has no code for GPUs; compute it by ops of arith and math that have "
          "some, on types of at most 32 bits");
    return WalkResult::advance();
  };
  return failure(op->walk(check).wasInterrupted());
}

namespace {

/// The code of a function that stays on the host, and what leaves it.
class HostCode {
public:
  HostCode(func::FuncOp function, KernelModule &kernels)
      : function(function), kernels(kernels), lazy(function) {}

  LogicalResult run() {
    if (failed(visit(function.getBody().front())))
      return failure();
    return lazy.eraseAll();
  }

private:
  func::FuncOp function;
  KernelModule &kernels;
  LazyValues lazy;
  /// Ops of one block for the next kernel of one thread.
  llvm::SetVector<Operation *> pending;

  /// Whether `op`, or an op in it, uses what only the device knows.
  bool usesDevice(Operation *op) {
    auto uses = [&](Operation *inner) {
      bool found = llvm::any_of(inner->getOperands(), [&](Value operand) {
        Operation *owner = operand.getDefiningOp();
        return pending.contains(owner) || lazy.contains(owner);
      });
      return found ? WalkResult::interrupt() : WalkResult::advance();
    };
    return op->walk(uses).wasInterrupted();
  }

  bool hasDeviceBounds(scf::ParallelOp loop) {
    return llvm::any_of(loop->getOperands(), [&](Value operand) {
      Operation *owner = operand.getDefiningOp();
      return pending.contains(owner) || lazy.contains(owner);
    });
  }

  LogicalResult visit(Block &block) {
    for (Operation &op : llvm::make_early_inc_range(block))
      if (failed(visit(&op)))
        return failure();
    return flush();
  }

  LogicalResult visit(Operation *op) {
    if (isa<memref::AllocOp, memref::AllocaOp>(op))
      return checkKernelOp(op);
    if (isa<memref::DeallocOp, memref::AssumeAlignmentOp>(op)) {
      op->erase();
      return success();
    }
    if (lazy.add(op))
      return success();
    // The host encodes tensor maps, from addresses alone.
    if (op->hasTrait<OpTrait::IsTerminator>() ||
        isa<nvgpu::TmaCreateDescriptorOp>(op) ||
        (isMemoryEffectFree(op) && !usesDevice(op)))
      return success();
    if (isa<gpu::LaunchFuncOp, CallOpInterface>(op))
      return flush();
    if (auto loop = dyn_cast<scf::ParallelOp>(op);
        loop && loop.getNumReductions() == 0 && !hasDeviceBounds(loop)) {
      if (failed(flush()))
        return failure();
      return lowerParallel(loop);
    }
    if (isa<scf::ForOp, scf::IfOp>(op) && holdsLaunches(op)) {
      if (failed(flush()))
        return failure();
      for (Region &region : op->getRegions())
        for (Block &block : region)
          if (failed(visit(block)))
            return failure();
      return success();
    }
    pending.insert(op);
    return success();
  }

  /// Makes a kernel of what is pending.
  LogicalResult flush() {
    if (pending.empty())
      return success();
    SmallVector<Operation *> ops = pending.takeVector();
    llvm::SmallPtrSet<Operation *, 16> moved(ops.begin(), ops.end());
    for (Operation *op : ops)
      if (failed(checkKernelOp(op)) || failed(checkUses(op, moved)))
        return failure();
    DeviceCapture capture(lazy);
    for (Operation *op : ops)
      if (failed(capture.addUses(op, moved)))
        return failure();
    Operation *last = ops.back();
    remark::missed(
        ops.front()->getLoc(),
        remark::RemarkOpts::name("gpu-loops").category("moe-loops-to-gpu"))
        << ("'" + ops.front()->getName().getStringRef() + "' and " +
            Twine(ops.size() - 1) +
            " ops after it run in one thread; no kernel is made for them")
               .str();
    ImplicitLocOpBuilder b(last->getLoc(), last);
    capture.buildHostValues(b);
    SymbolRefAttr kernel = kernels.addKernel(
        last, "serial", /*numThreads=*/1, capture.getParameters(),
        [&](KernelBuilder &b, const IRMapping &toDevice, Value) {
          IRMapping mapping = capture.buildDeviceValues(b, toDevice);
          for (Operation *op : ops)
            b.clone(*op, mapping);
        });
    buildLaunch(b, kernel, arith::ConstantIndexOp::create(b, 1),
                /*numThreads=*/1, /*sharedBytes=*/0, capture.getParameters());
    for (Operation *op : llvm::reverse(ops))
      op->erase();
    return success();
  }

  static LogicalResult
  checkUses(Operation *op, const llvm::SmallPtrSetImpl<Operation *> &moved) {
    for (Operation *user : op->getUsers()) {
      Operation *outer = op->getBlock()->findAncestorOpInBlock(*user);
      if (outer && !moved.contains(outer))
        return emitNeededOnHost(op, user);
    }
    return success();
  }

  LogicalResult lowerParallel(scf::ParallelOp loop) {
    if (failed(checkKernelOp(loop)))
      return failure();
    DeviceCapture capture(lazy);
    llvm::SmallPtrSet<Operation *, 1> moved = {loop};
    if (failed(capture.addUses(loop, moved)))
      return failure();
    ImplicitLocOpBuilder b(loop.getLoc(), loop);
    SmallVector<Value> counts;
    Value total;
    for (auto [lower, upper, step] : llvm::zip(
             loop.getLowerBound(), loop.getUpperBound(), loop.getStep())) {
      Value count = buildCount(b, lower, upper, step);
      total = total ? b.createOrFold<arith::MulIOp>(total, count) : count;
      counts.push_back(count);
    }
    Value count = arith::IndexCastOp::create(b, b.getI64Type(), total);
    for (Value value : counts)
      capture.addScalar(value);
    capture.buildHostValues(b);
    KernelParameters parameters = capture.getParameters();
    parameters.addScalar(count);
    SymbolRefAttr kernel = kernels.addKernel(
        loop, "loop", kLoopThreads, parameters,
        [&](KernelBuilder &b, const IRMapping &toDevice, Value) {
          buildParallelKernel(b, loop, capture, toDevice, counts,
                              toDevice.lookup(count));
        });
    Value threads = arith::ConstantIndexOp::create(b, kLoopThreads);
    Value blocks = b.createOrFold<arith::CeilDivUIOp>(total, threads);
    blocks = b.createOrFold<arith::MaxUIOp>(
        blocks, arith::ConstantIndexOp::create(b, 1).getResult());
    buildLaunch(b, kernel, blocks, kLoopThreads, /*sharedBytes=*/0, parameters);
    loop.erase();
    return success();
  }

  /// ⌈(upper − lower) / step⌉, 0 where there is nothing to do.
  static Value buildCount(ImplicitLocOpBuilder &b, Value lower, Value upper,
                          Value step) {
    Value zero = arith::ConstantIndexOp::create(b, 0);
    Value span = b.createOrFold<arith::SubIOp>(upper, lower);
    span = b.createOrFold<arith::MaxSIOp>(span, zero);
    return b.createOrFold<arith::CeilDivUIOp>(span, step);
  }

  void buildParallelKernel(KernelBuilder &b, scf::ParallelOp loop,
                           const DeviceCapture &capture,
                           const IRMapping &toDevice, ArrayRef<Value> counts,
                           Value total) {
    Value first = b.mul(b.widen(b.blockId()), kLoopThreads);
    Value number = b.add(first, b.widen(b.threadId()));
    b.onlyIf(b.less(number, total), [&] {
      IRMapping mapping = capture.buildDeviceValues(b, toDevice);
      Value rest =
          arith::IndexCastOp::create(b, b.getIndexType(), number).getResult();
      for (int64_t i = static_cast<int64_t>(counts.size()) - 1; i >= 0; --i) {
        Value count = mapping.lookup(counts[i]);
        Value at = i ? b.rem(rest, count) : rest;
        if (i)
          rest = b.div(rest, count);
        Value step = mapping.lookup(loop.getStep()[i]);
        Value lower = mapping.lookup(loop.getLowerBound()[i]);
        mapping.map(loop.getInductionVars()[i], b.add(lower, b.mul(at, step)));
      }
      for (Operation &op : loop.getBody()->without_terminator())
        b.clone(op, mapping);
    });
  }
};

/// Constants are the device's where it reads them.
void moveGlobals(ModuleOp host, gpu::GPUModuleOp kernels) {
  SymbolTable symbols(kernels);
  kernels.walk([&](memref::GetGlobalOp op) {
    auto global = host.lookupSymbol<memref::GlobalOp>(op.getNameAttr());
    if (global && !symbols.lookup(op.getName()))
      symbols.insert(global.clone(), kernels.getBody()->begin());
  });
}

struct LoopsToGPUPass : moe::impl::MoELoopsToGPUBase<LoopsToGPUPass> {
  void runOnOperation() override {
    KernelModule kernels(getOperation());
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (function.isExternal())
        continue;
      if (!function.getBody().hasOneBlock()) {
        function.emitError()
            << "@" << function.getName()
            << " has several blocks; write its control flow with scf";
        return signalPassFailure();
      }
      if (failed(HostCode(function, kernels).run()))
        return signalPassFailure();
    }
    for (auto module : getOperation().getOps<gpu::GPUModuleOp>())
      moveGlobals(getOperation(), module);
  }
};
} // namespace
