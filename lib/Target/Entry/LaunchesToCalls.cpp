//===- LaunchesToCalls.cpp - Launches of kernels as calls -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Upstream's lowering of launches loads modules before main and has no way to
/// return an error. Here a launch is a call of moe/Runtime/CUDALayer.h with a
/// record of the call, which the entry's caller makes and keeps the first
/// error.
///
//===----------------------------------------------------------------------===//

#include "moe/Target/Passes.h"

#include "EntryShapes.h"
#include "GPUProgram.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "moe/Conversion/LaunchAttributes.h"
#include "moe/Target/EntrySignature.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELAUNCHESTOCALLS
#include "moe/Target/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Rewrites one entry and makes its program.
class LaunchRewriter {
public:
  LaunchRewriter(ModuleOp module, func::FuncOp entry)
      : module(module), entry(entry), b(entry.getLoc(), entry.getContext()),
        ptr(LLVM::LLVMPointerType::get(b.getContext())), i32(b.getI32Type()),
        i64(b.getI64Type()) {}

  LogicalResult run();

private:
  LogicalResult collect(gpu::LaunchFuncOp launch);
  bool isCalledByEntry(func::FuncOp function);
  /// Gives each function the record of the call, and hands it on.
  LogicalResult addCallArguments();
  void rewrite(gpu::LaunchFuncOp launch, Value call);
  /// Encodes a tensor map at `map` when the entry is called.
  void encode(nvgpu::TmaCreateDescriptorOp create, Value call, Value map);
  /// In the entry block, so that a loop does not allocate.
  Value allocate(Type type, int64_t count, unsigned alignment = 0);
  Value toI64(Value value);

  Value constant(Type type, int64_t value) {
    return LLVM::ConstantOp::create(b, type, b.getIntegerAttr(type, value));
  }

  ModuleOp module;
  func::FuncOp entry;
  ImplicitLocOpBuilder b;
  Type ptr, i32, i64;
  /// The first block of the function being rewritten.
  Block *allocationBlock = nullptr;
  /// That launch; the entry among them, launching or not.
  llvm::SetVector<func::FuncOp> functions;
  GPUBinaries binaries;
};

} // namespace

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

bool LaunchRewriter::isCalledByEntry(func::FuncOp function) {
  auto uses = SymbolTable::getSymbolUses(function, module);
  return uses && !uses->empty() &&
         llvm::all_of(*uses, [&](SymbolTable::SymbolUse use) {
           auto call = dyn_cast<func::CallOp>(use.getUser());
           return call && call->getParentOfType<func::FuncOp>() == entry;
         });
}

/// The tensor that `create` is told of, with its rank; null if that is not
/// known.
static Value getTensor(nvgpu::TmaCreateDescriptorOp create) {
  Value tensor = create.getTensor();
  if (isa<MemRefType>(tensor.getType()))
    return tensor;
  auto cast = tensor.getDefiningOp<memref::CastOp>();
  if (cast && isa<MemRefType>(cast.getSource().getType()))
    return cast.getSource();
  return {};
}

LogicalResult LaunchRewriter::collect(gpu::LaunchFuncOp launch) {
  auto function = launch->getParentOfType<func::FuncOp>();
  if (function != entry && !isCalledByEntry(function))
    return launch.emitOpError(
        "is neither in the entry nor in a function that it calls; inline the "
        "one that holds it");
  functions.insert(function);
  if (launch.getAsyncToken() || !launch.getAsyncDependencies().empty() ||
      launch.getAsyncObject())
    return launch.emitOpError("is asynchronous; launches go to the stream of "
                              "the call");
  for (Value operand : launch.getKernelOperands()) {
    if (isa<nvgpu::TensorMapDescriptorType>(operand.getType())) {
      auto create = operand.getDefiningOp<nvgpu::TmaCreateDescriptorOp>();
      if (!create || !getTensor(create))
        return launch.emitOpError("passes a tensor map that is not made of a "
                                  "memref of known rank");
      continue;
    }
    if (!LLVM::isCompatibleType(operand.getType()))
      return launch.emitOpError("passes a ")
             << operand.getType() << "; kernels take pointers and scalars";
  }
  GPUKernels &kernels = binaries[launch.getKernelModuleName()];
  auto [it, isNew] = kernels.insert({launch.getKernelName(), GPUKernel()});
  GPUKernel &kernel = it->second;
  if (isNew)
    kernel.number = kernels.size() - 1;
  IntegerAttr shared;
  if (Value bytes = launch.getDynamicSharedMemorySize()) {
    if (!matchPattern(bytes, m_Constant(&shared)))
      return launch.emitOpError(
          "asks for shared memory that is not a constant");
    kernel.sharedBytes = std::max(kernel.sharedBytes, shared.getInt());
  }
  if (launch->hasAttr(kCooperative) &&
      (launch.getKernelOperands().empty() ||
       !launch.getKernelOperands().back().getType().isInteger(64)))
    return launch.emitOpError("is cooperative, but its last operand, for the "
                              "ticket, is no i64");
  if (launch.hasClusterSize()) {
    int64_t blocks = 1;
    gpu::KernelDim3 cluster = launch.getClusterSizeOperandValues();
    for (Value size : {cluster.x, cluster.y, cluster.z}) {
      IntegerAttr constant;
      if (!matchPattern(size, m_Constant(&constant)))
        return launch.emitOpError("has clusters of no constant size");
      blocks *= constant.getInt();
    }
    kernel.hasLargeClusters |= blocks > 8;
  }
  return success();
}

Value LaunchRewriter::toI64(Value value) {
  if (value.getType().isIndex())
    return arith::IndexCastOp::create(b, i64, value);
  if (value.getType() == i64)
    return value;
  return arith::ExtSIOp::create(b, i64, value);
}

void LaunchRewriter::encode(nvgpu::TmaCreateDescriptorOp create, Value call,
                            Value map) {
  Value tensor = getTensor(create);
  auto type = cast<MemRefType>(tensor.getType());
  int64_t rank = type.getRank();
  auto parts = memref::ExtractStridedMetadataOp::create(b, tensor);
  Value bytes =
      constant(i64, llvm::divideCeil(type.getElementTypeBitWidth(), 8));
  Value address = toI64(
      memref::ExtractAlignedPointerAsIndexOp::create(b, parts.getBaseBuffer()));
  Value offset = arith::MulIOp::create(b, toI64(parts.getOffset()), bytes);
  address = arith::AddIOp::create(b, address, offset);

  // moe_cuda_tensor, the contiguous dimension first.
  constexpr int64_t kMaxRank = 5;
  auto longs = [&](int64_t n) { return LLVM::LLVMArrayType::get(i64, n); };
  auto record = LLVM::LLVMStructType::getLiteral(
      b.getContext(), {ptr, i32, i32, longs(kMaxRank), longs(kMaxRank - 1),
                       LLVM::LLVMArrayType::get(i32, kMaxRank), i32});
  auto swizzle =
      cast<nvgpu::TensorMapDescriptorType>(create.getType()).getSwizzle();
  Value value = LLVM::ZeroOp::create(b, record);
  auto set = [&](Value field, ArrayRef<int64_t> at) {
    value = LLVM::InsertValueOp::create(b, value, field, at);
  };
  set(LLVM::IntToPtrOp::create(b, ptr, address), {0});
  set(constant(i32, *getCType(*getElementType(type.getElementType()))), {1});
  set(constant(i32, rank), {2});
  for (int64_t i = 0; i < rank; ++i) {
    int64_t dim = rank - 1 - i;
    set(toI64(parts.getSizes()[dim]), {3, i});
    if (i > 0)
      set(arith::MulIOp::create(b, toI64(parts.getStrides()[dim]), bytes),
          {4, i - 1});
    set(arith::TruncIOp::create(b, i32, toI64(create.getBoxDimensions()[dim])),
        {5, i});
  }
  // Numbered alike.
  set(constant(i32, static_cast<int64_t>(swizzle)), {6});
  Value place = allocate(record, 1);
  LLVM::StoreOp::create(b, value, place);
  LLVM::CallOp::create(
      b, TypeRange(),
      FlatSymbolRefAttr::get(b.getContext(), "moe_cuda_call_encode"),
      ValueRange{call, map, place});
}

Value LaunchRewriter::allocate(Type type, int64_t count, unsigned alignment) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(allocationBlock);
  return LLVM::AllocaOp::create(b, ptr, type, constant(i64, count), alignment);
}

/// moe_cuda_call_kernel(call, kernel, sizes, shared_memory, args), or
/// moe_cuda_call_cooperative(…, args, ticket).
void LaunchRewriter::rewrite(gpu::LaunchFuncOp launch, Value call) {
  b.setLoc(launch.getLoc());
  auto at = [&](Value array, Type type, int64_t i) -> Value {
    return LLVM::GEPOp::create(b, ptr, type, array,
                               ArrayRef<LLVM::GEPArg>{int32_t(i)});
  };
  gpu::KernelDim3 grid = launch.getGridSizeOperandValues();
  gpu::KernelDim3 block = launch.getBlockSizeOperandValues();
  SmallVector<Value> dims = {grid.x, grid.y, grid.z, block.x, block.y, block.z};
  if (launch.hasClusterSize()) {
    gpu::KernelDim3 cluster = launch.getClusterSizeOperandValues();
    dims.append({cluster.x, cluster.y, cluster.z});
  }
  constexpr int64_t kNumSizes = 10;
  Value sizes = allocate(i64, kNumSizes);
  ValueRange operands = launch.getKernelOperands();
  Value args = allocate(ptr, std::max<size_t>(operands.size(), 1));
  b.setInsertionPoint(launch);
  auto limit = launch->getAttrOfType<IntegerAttr>(kBlocksPerMultiprocessor);
  for (int64_t i = 0; i < kNumSizes; ++i) {
    Value size =
        i < static_cast<int64_t>(dims.size())
            ? toI64(dims[i])
            : constant(i64, i + 1 == kNumSizes && limit ? limit.getInt() : 0);
    LLVM::StoreOp::create(b, size, at(sizes, i64, i));
  }
  Value lastPlace;
  for (auto [i, operand] : llvm::enumerate(operands)) {
    Value place;
    if (auto create = operand.getDefiningOp<nvgpu::TmaCreateDescriptorOp>()) {
      constexpr int64_t kMapBytes = 128, kMapAlignment = 64;
      place = allocate(b.getI8Type(), kMapBytes, kMapAlignment);
      encode(create, call, place);
    } else {
      place = allocate(operand.getType(), 1);
      LLVM::StoreOp::create(b, operand, place);
    }
    LLVM::StoreOp::create(b, place, at(args, ptr, i));
    lastPlace = place;
  }
  const GPUKernel &kernel =
      binaries[launch.getKernelModuleName()][launch.getKernelName()];
  Value shared = launch.getDynamicSharedMemorySize();
  if (!shared)
    shared = constant(i32, 0);
  StringRef callee = "moe_cuda_call_kernel";
  SmallVector<Value> callOperands = {call, constant(i32, kernel.number), sizes,
                                     shared, args};
  if (launch->hasAttr(kCooperative)) {
    callee = "moe_cuda_call_cooperative";
    callOperands.push_back(lastPlace);
  }
  LLVM::CallOp::create(b, TypeRange(),
                       FlatSymbolRefAttr::get(b.getContext(), callee),
                       callOperands);
  SmallVector<Operation *> maps;
  for (Value operand : operands)
    if (auto create = operand.getDefiningOp<nvgpu::TmaCreateDescriptorOp>())
      if (!llvm::is_contained(maps, create))
        maps.push_back(create);
  launch.erase();
  for (Operation *map : maps)
    if (map->use_empty())
      map->erase();
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

/// moe_cuda_call of moe/Runtime/CUDALayer.h, up to the image.
static Type getCallType(MLIRContext *context) {
  Type ptr = LLVM::LLVMPointerType::get(context);
  Type i32 = IntegerType::get(context, 32);
  return LLVM::LLVMStructType::getLiteral(context, {ptr, ptr, i32, i32});
}

LogicalResult LaunchRewriter::addCallArguments() {
  for (func::FuncOp function : functions)
    if (failed(function.insertArgument(function.getNumArguments(), ptr,
                                       /*argAttrs=*/{}, entry.getLoc())))
      return failure();
  Value record = entry.getArguments().back();
  SmallVector<func::CallOp> calls;
  entry.walk([&](func::CallOp call) { calls.push_back(call); });
  for (func::CallOp call : calls) {
    auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
    if (!functions.contains(callee))
      continue;
    b.setInsertionPoint(call);
    SmallVector<Value> operands(call.getOperands());
    operands.push_back(record);
    call->replaceAllUsesWith(func::CallOp::create(b, callee, operands));
    call.erase();
  }
  // Which version runs is what the call knows of its device.
  std::string name = (entry.getName() + ".image").str();
  auto chooser = module.lookupSymbol<LLVM::LLVMFuncOp>(name);
  if (!chooser)
    return success();
  SmallVector<LLVM::CallOp> choices;
  entry.walk([&](LLVM::CallOp call) {
    if (call.getCallee() == StringRef(name))
      choices.push_back(call);
  });
  for (LLVM::CallOp call : choices) {
    b.setInsertionPoint(call);
    constexpr int32_t kImage = 3;
    Value place =
        LLVM::GEPOp::create(b, ptr, getCallType(b.getContext()), record,
                            ArrayRef<LLVM::GEPArg>{0, kImage});
    call.getResult().replaceAllUsesWith(LLVM::LoadOp::create(b, i32, place));
    call.erase();
  }
  chooser.erase();
  return success();
}

LogicalResult LaunchRewriter::run() {
  SmallVector<gpu::LaunchFuncOp> launches;
  module.walk([&](gpu::LaunchFuncOp launch) { launches.push_back(launch); });
  functions.insert(entry);
  for (gpu::LaunchFuncOp launch : launches)
    if (failed(collect(launch)))
      return failure();
  if (failed(addCallArguments()))
    return failure();
  b.setInsertionPointToStart(module.getBody());
  Type none = LLVM::LLVMVoidType::get(b.getContext());
  LLVM::LLVMFuncOp::create(
      b, "moe_cuda_call_kernel",
      LLVM::LLVMFunctionType::get(none, {ptr, i32, ptr, i32, ptr}));
  LLVM::LLVMFuncOp::create(
      b, "moe_cuda_call_cooperative",
      LLVM::LLVMFunctionType::get(none, {ptr, i32, ptr, i32, ptr, ptr}));
  LLVM::LLVMFuncOp::create(b, "moe_cuda_call_encode",
                           LLVM::LLVMFunctionType::get(none, {ptr, ptr, ptr}));
  for (gpu::LaunchFuncOp launch : launches) {
    auto function = launch->getParentOfType<func::FuncOp>();
    allocationBlock = &function.getBody().front();
    rewrite(launch, function.getArguments().back());
  }
  FailureOr<FlatSymbolRefAttr> program =
      buildGPUProgram(module, entry, binaries);
  if (failed(program))
    return failure();
  NamedAttrList attrs(entry->getAttrOfType<DictionaryAttr>(kEntryAttr));
  attrs.set("program", *program);
  entry->setAttr(kEntryAttr, attrs.getDictionary(b.getContext()));
  return success();
}

namespace {
struct LaunchesToCalls final
    : moe::impl::MoELaunchesToCallsBase<LaunchesToCalls> {
  void runOnOperation() override {
    auto rewrite = [&](func::FuncOp entry, DictionaryAttr) {
      return LaunchRewriter(getOperation(), entry).run();
    };
    if (failed(forEachEntry(getOperation(), rewrite)))
      return signalPassFailure();
    getOperation()->removeAttr(gpu::GPUDialect::getContainerModuleAttrName());
  }
};
} // namespace
