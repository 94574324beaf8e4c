//===- EmulateNVVMAsync.cpp - Bulk copies, mbarriers and wgmma as calls -*- C++
//-*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulateNVVM.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

/// A call in place of an op without results.
static LogicalResult becomeCall(Operation *op, StringRef name, ValueRange args,
                                EmulationCalls &calls) {
  calls.call(op, name, Type(), args);
  op->erase();
  return success();
}

static LogicalResult refuse(Operation *op, const Twine &what) {
  return op->emitOpError() << "has no emulation " << what
                           << "; lib/Emulation is where one is added";
}

//===----------------------------------------------------------------------===//
// mbarriers
//===----------------------------------------------------------------------===//

/// Replaces an op that returns the phase as an i64, or nothing.
static LogicalResult becomeArrival(Operation *op, StringRef name,
                                   ValueRange args, EmulationCalls &calls) {
  OpBuilder b(op);
  Value phase = calls.call(op, name, b.getI64Type(), args);
  if (op->getNumResults())
    op->getResult(0).replaceAllUsesWith(phase);
  op->erase();
  return success();
}

/// The phase of a wait: its parity, or what arriving returned.
static Value parityOf(Operation *op, Value stateOrPhase) {
  if (stateOrPhase.getType().isInteger(32))
    return stateOrPhase;
  OpBuilder b(op);
  return LLVM::TruncOp::create(b, op->getLoc(), b.getI32Type(), stateOrPhase);
}

static LogicalResult becomeTest(Operation *op, Value address, Value phase,
                                EmulationCalls &calls) {
  Value byte = calls.call(
      op, "moe_emu_mbarrier_test", calls.i8Type(),
      {calls.generic(op, address), parityOf(op, phase), calls.site(op)});
  op->getResult(0).replaceAllUsesWith(calls.bit(op, byte));
  op->erase();
  return success();
}

//===----------------------------------------------------------------------===//
// Bulk copies
//===----------------------------------------------------------------------===//

static Value storeCoordinates(Operation *op, ValueRange coordinates,
                              EmulationCalls &calls) {
  Value memory = calls.buffer(op, 0, coordinates.size());
  for (auto [i, coordinate] : llvm::enumerate(coordinates))
    calls.storeWord(op, memory, i, coordinate);
  return memory;
}

static LogicalResult
emulateLoad(NVVM::CpAsyncBulkTensorGlobalToSharedClusterOp op,
            EmulationCalls &calls) {
  if (op.getMode() != NVVM::TMALoadMode::TILE || op.getPredicate())
    return refuse(op, "with a predicate or a mode other than tile");
  OpBuilder b(op);
  Value mask = calls.i32(op, 0);
  if (Value multicast = op.getMulticastMask())
    mask = LLVM::ZExtOp::create(b, op.getLoc(), b.getI32Type(), multicast);
  Value coordinates = storeCoordinates(op, op.getCoordinates(), calls);
  return becomeCall(op, "moe_emu_tma_load",
                    {calls.generic(op, op.getDstMem()), op.getTmaDescriptor(),
                     coordinates, calls.i32(op, op.getCoordinates().size()),
                     calls.generic(op, op.getMbar()), mask, calls.site(op)},
                    calls);
}

static LogicalResult emulateStore(NVVM::CpAsyncBulkTensorSharedCTAToGlobalOp op,
                                  EmulationCalls &calls) {
  if (op.getMode() != NVVM::TMAStoreMode::TILE || op.getPredicate())
    return refuse(op, "with a predicate or a mode other than tile");
  Value coordinates = storeCoordinates(op, op.getCoordinates(), calls);
  return becomeCall(op, "moe_emu_tma_store",
                    {op.getTmaDescriptor(), calls.generic(op, op.getSrcMem()),
                     coordinates, calls.i32(op, op.getCoordinates().size()),
                     calls.site(op)},
                    calls);
}

//===----------------------------------------------------------------------===//
// wgmma
//===----------------------------------------------------------------------===//

/// The library's Element of a type.
static std::optional<int64_t> elementOf(NVVM::WGMMATypes type) {
  switch (type) {
  case NVVM::WGMMATypes::bf16:
    return 0;
  case NVVM::WGMMATypes::f16:
    return 1;
  case NVVM::WGMMATypes::tf32:
    return 2;
  case NVVM::WGMMATypes::e4m3:
    return 3;
  case NVVM::WGMMATypes::e5m2:
    return 4;
  default:
    return std::nullopt;
  }
}

static LogicalResult emulateWgmma(NVVM::WgmmaMmaAsyncOp op,
                                  EmulationCalls &calls) {
  std::optional<int64_t> element = elementOf(op.getTypeA());
  if (!element || op.getTypeB() != op.getTypeA() ||
      op.getTypeD() != NVVM::WGMMATypes::f32)
    return refuse(op, "for other products than of equal float types into f32");
  auto type = cast<LLVM::LLVMStructType>(op.getType());
  unsigned count = type.getBody().size();
  int64_t n = op.getShape().getN(), k = op.getShape().getK();
  int64_t flags = 0;
  if (op.getScaleD() == NVVM::WGMMAScaleOut::one)
    flags |= 1;
  if (op.getScaleA() == NVVM::WGMMAScaleIn::neg)
    flags |= 2;
  if (op.getScaleB() == NVVM::WGMMAScaleIn::neg)
    flags |= 4;
  // A is k-major as rows, B as columns.
  if (op.getLayoutA() == NVVM::MMALayout::col)
    flags |= 8;
  if (op.getLayoutB() == NVVM::MMALayout::row)
    flags |= 16;
  Value sums = calls.buffer(op, 1, count);
  OpBuilder b(op);
  LLVM::StoreOp::create(b, op.getLoc(), op.getInouts(), sums);
  calls.call(op, "moe_emu_wgmma", Type(),
             {op.getDescriptorA(), op.getDescriptorB(), calls.i32(op, *element),
              calls.i32(op, n), calls.i32(op, k), calls.i32(op, flags), sums,
              calls.site(op)});
  b.setInsertionPoint(op);
  Value result = LLVM::LoadOp::create(b, op.getLoc(), type, sums);
  op.getResult().replaceAllUsesWith(result);
  op.erase();
  return success();
}

//===----------------------------------------------------------------------===//
// Dispatch
//===----------------------------------------------------------------------===//

static std::optional<LogicalResult> emulateBarrierOp(Operation *operation,
                                                     EmulationCalls &calls) {
  using Result = std::optional<LogicalResult>;
  return llvm::TypeSwitch<Operation *, Result>(operation)
      .Case([&](NVVM::MBarrierInitOp op) -> Result {
        if (op.getPredicate())
          return refuse(op, "with a predicate");
        return becomeCall(
            op, "moe_emu_mbarrier_init",
            {calls.generic(op, op.getAddr()), op.getCount(), calls.site(op)},
            calls);
      })
      .Case([&](NVVM::MBarrierInvalOp op) -> Result {
        return becomeCall(op, "moe_emu_mbarrier_inval",
                          {calls.generic(op, op.getAddr()), calls.site(op)},
                          calls);
      })
      .Case([&](NVVM::MBarrierExpectTxOp op) -> Result {
        return becomeCall(
            op, "moe_emu_mbarrier_expect_tx",
            {calls.generic(op, op.getAddr()), op.getTxcount(), calls.site(op)},
            calls);
      })
      .Case([&](NVVM::MBarrierCompleteTxOp op) -> Result {
        return becomeCall(
            op, "moe_emu_mbarrier_complete_tx",
            {calls.generic(op, op.getAddr()), op.getTxcount(), calls.site(op)},
            calls);
      })
      .Case([&](NVVM::MBarrierArriveOp op) -> Result {
        return becomeArrival(op, "moe_emu_mbarrier_arrive",
                             {calls.generic(op, op.getAddr()),
                              calls.i32Or(op, op.getCount(), 1),
                              calls.site(op)},
                             calls);
      })
      .Case([&](NVVM::MBarrierArriveExpectTxOp op) -> Result {
        if (op.getPredicate())
          return refuse(op, "with a predicate");
        return becomeArrival(
            op, "moe_emu_mbarrier_arrive_expect_tx",
            {calls.generic(op, op.getAddr()), op.getTxcount(), calls.site(op)},
            calls);
      })
      .Case([&](NVVM::MBarrierTryWaitParityOp op) -> Result {
        return becomeCall(
            op, "moe_emu_mbarrier_wait",
            {calls.generic(op, op.getAddr()), op.getPhase(), calls.site(op)},
            calls);
      })
      .Case<NVVM::MBarrierTestWaitOp, NVVM::MBarrierTryWaitOp>(
          [&](auto op) -> Result {
            return becomeTest(op, op.getAddr(), op.getStateOrPhase(), calls);
          })
      .Case([&](NVVM::CpAsyncMBarrierArriveOp op) -> Result {
        return becomeCall(op, "moe_emu_cp_async_mbarrier_arrive",
                          {calls.generic(op, op.getAddr()),
                           calls.i8(op, op.getNoinc()), calls.site(op)},
                          calls);
      })
      .Case([&](NVVM::FenceMbarrierInitOp op) -> Result {
        calls.call(op, "moe_emu_fence_mbarrier_init", Type(), {});
        op.erase();
        return success();
      })
      .Case([&](NVVM::FenceProxyOp op) -> Result {
        if (op.getKind() == NVVM::ProxyKind::async_shared ||
            op.getKind() == NVVM::ProxyKind::async)
          calls.call(op, "moe_emu_fence_proxy_async", Type(), {});
        op.erase();
        return success();
      })
      .Default([](Operation *) { return std::nullopt; });
}

std::optional<LogicalResult> mlir::moe::emulateAsyncOp(Operation *operation,
                                                       EmulationCalls &calls) {
  using Result = std::optional<LogicalResult>;
  if (Result done = emulateBarrierOp(operation, calls))
    return done;
  return llvm::TypeSwitch<Operation *, Result>(operation)
      .Case([&](NVVM::CpAsyncBulkTensorGlobalToSharedClusterOp op) -> Result {
        return emulateLoad(op, calls);
      })
      .Case([&](NVVM::CpAsyncBulkTensorSharedCTAToGlobalOp op) -> Result {
        return emulateStore(op, calls);
      })
      .Case([&](NVVM::CpAsyncBulkGlobalToSharedClusterOp op) -> Result {
        if (op.getMulticastMask())
          return refuse(op, "with a multicast mask");
        return becomeCall(op, "moe_emu_bulk_load",
                          {calls.generic(op, op.getDstMem()),
                           calls.generic(op, op.getSrcMem()), op.getSize(),
                           calls.generic(op, op.getMbar()), calls.site(op)},
                          calls);
      })
      .Case([&](NVVM::CpAsyncBulkCommitGroupOp op) -> Result {
        return becomeCall(op, "moe_emu_bulk_commit", {}, calls);
      })
      .Case([&](NVVM::CpAsyncBulkWaitGroupOp op) -> Result {
        return becomeCall(op, "moe_emu_bulk_wait",
                          {calls.i32(op, op.getGroup())}, calls);
      })
      .Case([&](NVVM::MapaOp op) -> Result {
        OpBuilder b(op);
        Value there = calls.call(
            op, "moe_emu_mapa", calls.pointerType(),
            {calls.generic(op, op.getA()), op.getB(), calls.site(op)});
        if (op.getType() != there.getType())
          there = LLVM::AddrSpaceCastOp::create(b, op.getLoc(), op.getType(),
                                                there);
        op.getResult().replaceAllUsesWith(there);
        op.erase();
        return success();
      })
      .Case([&](NVVM::WgmmaFenceAlignedOp op) -> Result {
        return becomeCall(op, "moe_emu_wgmma_fence", {calls.site(op)}, calls);
      })
      .Case([&](NVVM::WgmmaMmaAsyncOp op) -> Result {
        return emulateWgmma(op, calls);
      })
      .Case([&](NVVM::WgmmaGroupSyncAlignedOp op) -> Result {
        return becomeCall(op, "moe_emu_wgmma_commit", {calls.site(op)}, calls);
      })
      .Case([&](NVVM::WgmmaWaitGroupSyncOp op) -> Result {
        return becomeCall(op, "moe_emu_wgmma_wait",
                          {calls.i32(op, op.getGroup()), calls.site(op)},
                          calls);
      })
      .Default([](Operation *) { return std::nullopt; });
}
