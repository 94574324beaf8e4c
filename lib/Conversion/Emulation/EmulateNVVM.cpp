//===- EmulateNVVM.cpp - GPU kernels as host code for the emulation -*- C++
//-*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulateNVVM.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Interfaces/DataLayoutInterfaces.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEEMULATENVVM
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// As in the library: the first KiB of a block's window is the system's.
static constexpr int64_t kReservedBytes = 1024;

static bool isShared(Type type) {
  auto pointer = dyn_cast<LLVM::LLVMPointerType>(type);
  return pointer &&
         (pointer.getAddressSpace() == 3 || pointer.getAddressSpace() == 7);
}

namespace {

/// Makes one gpu.module host code of the module around it.
class ModuleEmulator {
public:
  ModuleEmulator(ModuleOp module, gpu::GPUModuleOp device,
                 EmulationCalls &calls)
      : module(module), device(device), calls(calls), layout(module) {}

  LogicalResult run() {
    if (failed(checkDialects()) || failed(layOutShared()))
      return failure();
    SmallVector<Operation *> accesses, ops;
    device.walk([&](Operation *op) {
      if (isa<LLVM::LoadOp, LLVM::StoreOp, LLVM::AtomicRMWOp,
              LLVM::AtomicCmpXchgOp>(op))
        accesses.push_back(op);
      else if (isa<NVVM::NVVMDialect>(op->getDialect()) ||
               isa<LLVM::AddressOfOp, LLVM::CallIntrinsicOp, LLVM::InlineAsmOp>(
                   op))
        ops.push_back(op);
    });
    // Symbols first: calls of the library are declared next to the kernels.
    if (failed(moveOut()))
      return failure();
    for (Operation *op : accesses)
      checkAccess(op);
    for (Operation *op : ops)
      if (auto address = dyn_cast<LLVM::AddressOfOp>(op))
        replaceSharedAddress(address);
      else if (failed(emulateOp(op, calls)))
        return failure();
    for (LLVM::LLVMFuncOp kernel : kernels)
      makeRecord(kernel);
    return success();
  }

private:
  ModuleOp module;
  gpu::GPUModuleOp device;
  EmulationCalls &calls;
  DataLayout layout;
  DenseMap<StringAttr, int64_t> sharedOffsets;
  SmallVector<Operation *> sharedGlobals;
  int64_t dynamicOffset = kReservedBytes;
  SmallVector<LLVM::LLVMFuncOp> kernels;

  LogicalResult checkDialects() {
    WalkResult result = device.walk([&](Operation *op) {
      if (op == device ||
          isa<LLVM::LLVMDialect, NVVM::NVVMDialect>(op->getDialect()))
        return WalkResult::advance();
      op->emitOpError(
          "cannot be emulated: kernels must be in the llvm and nvvm "
          "dialects; run the conversions to LLVM first");
      return WalkResult::interrupt();
    });
    return failure(result.wasInterrupted());
  }

  /// Static objects one after the other, then what the launch asks for.
  LogicalResult layOutShared() {
    int64_t end = kReservedBytes, dynamicAlignment = 16;
    SmallVector<StringAttr> dynamic;
    for (auto global : device.getOps<LLVM::GlobalOp>()) {
      if (global.getAddrSpace() != 3)
        continue;
      sharedGlobals.push_back(global);
      int64_t alignment = global.getAlignment().value_or(
          layout.getTypeABIAlignment(global.getType()));
      int64_t bytes = layout.getTypeSize(global.getType());
      if (bytes == 0) {
        dynamic.push_back(global.getSymNameAttr());
        dynamicAlignment = std::max(dynamicAlignment, alignment);
        continue;
      }
      end = llvm::alignTo(end, alignment);
      sharedOffsets[global.getSymNameAttr()] = end;
      end += bytes;
    }
    dynamicOffset = llvm::alignTo(end, dynamicAlignment);
    for (StringAttr name : dynamic)
      sharedOffsets[name] = dynamicOffset;
    return success();
  }

  /// Functions and globals of the device become the host's.
  LogicalResult moveOut() {
    for (Operation *global : sharedGlobals)
      global->remove();
    for (Operation &op :
         llvm::make_early_inc_range(device.getBody()->getOperations())) {
      auto symbol = dyn_cast<SymbolOpInterface>(op);
      if (!symbol)
        continue;
      Operation *there = module.lookupSymbol(symbol.getName());
      auto function = dyn_cast<LLVM::LLVMFuncOp>(op);
      if (there && function && function.isExternal() &&
          isa<LLVM::LLVMFuncOp>(there))
        continue; // declared twice
      if (there)
        return op.emitOpError()
               << "has the name of another symbol of the module, '"
               << symbol.getName() << "'; kernels need names of their own";
      op.moveBefore(device);
      if (function)
        becomeHost(function);
    }
    device.erase();
    return success();
  }

  void becomeHost(LLVM::LLVMFuncOp function) {
    if (function->hasAttr(NVVM::NVVMDialect::getKernelFuncAttrName()) ||
        function->hasAttr(gpu::GPUDialect::getKernelFuncAttrName()))
      kernels.push_back(function);
    // Threads of a block are fibers of one host thread: what noalias promises
    // of a GPU thread would not hold here.
    for (unsigned i = 0; i < function.getNumArguments(); ++i)
      function.removeArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName());
  }

  //===--- memory ---===//

  /// Whether a generic pointer surely points to memory of this thread alone or
  /// to constants.
  static bool isPrivate(Value pointer) {
    while (Operation *op = pointer.getDefiningOp()) {
      if (isa<LLVM::AllocaOp>(op))
        return true;
      if (isa<LLVM::AddressOfOp>(op))
        return !isShared(op->getResult(0).getType());
      if (!isa<LLVM::GEPOp, LLVM::AddrSpaceCastOp, LLVM::BitcastOp>(op))
        return false;
      pointer = op->getOperand(0);
    }
    auto argument = cast<BlockArgument>(pointer);
    auto function =
        dyn_cast<LLVM::LLVMFuncOp>(argument.getOwner()->getParentOp());
    return function && argument.getOwner()->isEntryBlock() &&
           function.getArgAttr(argument.getArgNumber(),
                               LLVM::LLVMDialect::getByValAttrName());
  }

  /// The kind of an atomic: 2, and flags of its order for the library.
  static int64_t kindOf(LLVM::AtomicOrdering ordering,
                        std::optional<StringRef> scope) {
    constexpr int64_t kAtomic = 2, kAcquire = 4, kRelease = 8, kBlockScope = 16;
    int64_t kind = kAtomic;
    bool both = ordering == LLVM::AtomicOrdering::acq_rel ||
                ordering == LLVM::AtomicOrdering::seq_cst;
    if (both || ordering == LLVM::AtomicOrdering::acquire)
      kind |= kAcquire;
    if (both || ordering == LLVM::AtomicOrdering::release)
      kind |= kRelease;
    return scope == "block" ? kind | kBlockScope : kind;
  }

  void checkAccess(Operation *op) {
    Value pointer;
    Type type;
    int64_t kind = 2;
    bool spins = false;
    if (auto load = dyn_cast<LLVM::LoadOp>(op)) {
      pointer = load.getAddr();
      type = load.getType();
      bool atomic = load.getOrdering() != LLVM::AtomicOrdering::not_atomic;
      constexpr int64_t kIsLoad = 32;
      kind = atomic ? kIsLoad | kindOf(load.getOrdering(), load.getSyncscope())
                    : 0;
      spins = atomic || load.getVolatile_();
    } else if (auto store = dyn_cast<LLVM::StoreOp>(op)) {
      pointer = store.getAddr();
      type = store.getValue().getType();
      bool atomic = store.getOrdering() != LLVM::AtomicOrdering::not_atomic;
      kind = atomic ? 1 + kindOf(store.getOrdering(), store.getSyncscope()) : 1;
    } else if (auto atomic = dyn_cast<LLVM::AtomicRMWOp>(op)) {
      pointer = atomic.getPtr();
      type = atomic.getVal().getType();
      kind = kindOf(atomic.getOrdering(), atomic.getSyncscope());
    } else {
      auto exchange = cast<LLVM::AtomicCmpXchgOp>(op);
      pointer = exchange.getPtr();
      type = exchange.getVal().getType();
      kind = kindOf(exchange.getSuccessOrdering(), exchange.getSyncscope());
      spins = true;
    }
    unsigned space =
        cast<LLVM::LLVMPointerType>(pointer.getType()).getAddressSpace();
    if (space == 4 || space == 5 || (space == 0 && isPrivate(pointer)))
      return;
    Value generic = calls.generic(op, pointer);
    calls.call(op, spins ? "moe_emu_spin_access" : "moe_emu_access", Type(),
               {generic, calls.i32(op, layout.getTypeSize(type)),
                calls.i32(op, kind), calls.site(op)});
  }

  void replaceSharedAddress(LLVM::AddressOfOp op) {
    if (!isShared(op.getType()))
      return;
    auto offset = sharedOffsets.find(op.getGlobalNameAttr().getAttr());
    if (offset == sharedOffsets.end())
      return;
    op.replaceAllUsesWith(calls.call(op, "moe_emu_shared", calls.pointerType(3),
                                     {calls.i32(op, offset->second)}));
    op.erase();
  }

  //===--- kernels ---===//

  /// llvm.func @moe_emu_entry_NAME(%args: !llvm.ptr): calls the kernel with
  /// what the pointers in %args point to, as the driver does.
  LLVM::LLVMFuncOp makeEntry(LLVM::LLVMFuncOp kernel) {
    OpBuilder b(kernel);
    b.setInsertionPointAfter(kernel);
    Location loc = kernel.getLoc();
    Type pointer = calls.pointerType();
    auto entry = LLVM::LLVMFuncOp::create(
        b, loc, ("moe_emu_entry_" + kernel.getName()).str(),
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                    {pointer}),
        LLVM::Linkage::Internal);
    b.setInsertionPointToStart(entry.addEntryBlock(b));
    SmallVector<Value> args;
    for (unsigned i = 0; i < kernel.getNumArguments(); ++i) {
      Value field =
          LLVM::GEPOp::create(b, loc, pointer, pointer, entry.getArgument(0),
                              ArrayRef<LLVM::GEPArg>{int32_t(i)});
      Value address = LLVM::LoadOp::create(b, loc, pointer, field);
      // The kernel reads such a parameter in place.
      if (kernel.getArgAttr(i, LLVM::LLVMDialect::getByValAttrName()))
        args.push_back(address);
      else
        args.push_back(LLVM::LoadOp::create(
            b, loc, kernel.getArgument(i).getType(), address));
    }
    LLVM::CallOp::create(b, loc, kernel, args);
    LLVM::ReturnOp::create(b, loc, ValueRange());
    for (unsigned i = 0; i < kernel.getNumArguments(); ++i)
      if (kernel.getArgAttr(i, LLVM::LLVMDialect::getByValAttrName()))
        kernel.removeArgAttr(i, LLVM::LLVMDialect::getByValAttrName());
    return entry;
  }

  static SmallVector<int64_t> numbers(LLVM::LLVMFuncOp kernel, StringRef name) {
    auto attr = kernel->getAttrOfType<DenseI32ArrayAttr>(name);
    return attr ? SmallVector<int64_t>(attr.asArrayRef().begin(),
                                       attr.asArrayRef().end())
                : SmallVector<int64_t>();
  }

  /// MoEEmuKernel of the library's header.
  void makeRecord(LLVM::LLVMFuncOp kernel) {
    LLVM::LLVMFuncOp entry = makeEntry(kernel);
    int64_t maxThreads = 1;
    SmallVector<int64_t> most =
        numbers(kernel, NVVM::NVVMDialect::getMaxntidAttrName());
    for (int64_t dim : most)
      maxThreads *= dim;
    SmallVector<int64_t> cluster =
        numbers(kernel, NVVM::NVVMDialect::getClusterDimAttrName());
    cluster.resize(3, cluster.empty() ? 0 : 1);
    for (NamedAttribute attr : llvm::to_vector(kernel->getAttrs()))
      if (attr.getName().getValue().starts_with("nvvm.") ||
          attr.getName().getValue().starts_with("gpu."))
        kernel->removeAttr(attr.getName());
    removeDeviceArgAttrs(kernel);

    OpBuilder b(entry);
    b.setInsertionPointAfter(entry);
    Location loc = kernel.getLoc();
    Type pointer = calls.pointerType(), i32 = b.getI32Type();
    auto type = LLVM::LLVMStructType::getLiteral(
        b.getContext(),
        {pointer, pointer, i32, i32, LLVM::LLVMArrayType::get(i32, 3)});
    auto record = LLVM::GlobalOp::create(
        b, loc, type, /*isConstant=*/true, LLVM::Linkage::External,
        ("moe_emu_kernel_" + kernel.getName()).str(), Attribute());
    Block *block = b.createBlock(&record.getInitializerRegion());
    auto end = LLVM::ReturnOp::create(
        b, loc, ValueRange(LLVM::UndefOp::create(b, loc, type)));
    Value value = block->front().getResult(0);
    auto insert = [&](Value element, ArrayRef<int64_t> position) {
      b.setInsertionPoint(end);
      value = LLVM::InsertValueOp::create(b, loc, value, element, position);
    };
    insert(calls.text(end, kernel.getName()), {0});
    b.setInsertionPoint(end);
    insert(LLVM::AddressOfOp::create(b, loc, entry), {1});
    insert(calls.i32(end, dynamicOffset), {2});
    insert(calls.i32(end, most.empty() ? 0 : maxThreads), {3});
    for (int64_t i = 0; i < 3; ++i)
      insert(calls.i32(end, cluster[i]), {4, i});
    end->setOperands(value);
  }

  static void removeDeviceArgAttrs(LLVM::LLVMFuncOp kernel) {
    for (unsigned i = 0; i < kernel.getNumArguments(); ++i)
      if (DictionaryAttr attrs = kernel.getArgAttrDict(i))
        for (NamedAttribute attr : attrs)
          if (attr.getName().getValue().starts_with("nvvm."))
            kernel.removeArgAttr(i, attr.getName());
  }
};

struct EmulateNVVMPass : moe::impl::MoEEmulateNVVMBase<EmulateNVVMPass> {
  void runOnOperation() override {
    EmulationCalls calls(getOperation());
    for (auto device :
         llvm::make_early_inc_range(getOperation().getOps<gpu::GPUModuleOp>()))
      if (failed(ModuleEmulator(getOperation(), device, calls).run()))
        return signalPassFailure();
    getOperation()->removeAttr(gpu::GPUDialect::getContainerModuleAttrName());
  }
};

} // namespace
