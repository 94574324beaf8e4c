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
/// record of the call, which the entry's caller makes and keeps the first error.
///
//===----------------------------------------------------------------------===//

#include "moe/Target/Passes.h"

#include "EntryShapes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELAUNCHESTOCALLS
#include "moe/Target/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// What the program says of a kernel.
struct Kernel {
  unsigned number = 0;
  int64_t sharedBytes = 0;
  bool hasLargeClusters = false;
};

/// The kernels of a gpu.binary that are launched.
using Kernels = llvm::MapVector<StringAttr, Kernel>;

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
  void rewrite(gpu::LaunchFuncOp launch, Value call);
  LogicalResult buildProgram();
  LogicalResult addImage(gpu::BinaryOp binary, const Kernels &kernels);

  Value constant(Type type, int64_t value) {
    return LLVM::ConstantOp::create(b, type, b.getIntegerAttr(type, value));
  }
  /// An internal constant with these bytes.
  LLVM::GlobalOp addBytes(const Twine &name, StringRef bytes, int64_t align);
  /// An internal global whose elements `build` returns.
  LLVM::GlobalOp addStruct(const Twine &name, Type type, bool isConstant,
                           function_ref<Value()> build);
  /// `base` with the fields put in.
  Value insert(Value base, int64_t first, ArrayRef<Value> fields,
               ArrayRef<int64_t> at = {});
  std::string local(const Twine &suffix) {
    return (entry.getName() + ".program" + suffix).str();
  }

  ModuleOp module;
  func::FuncOp entry;
  ImplicitLocOpBuilder b;
  Type ptr, i32, i64;
  llvm::MapVector<StringAttr, Kernels> binaries;
  /// Of the image being made.
  SmallVector<Value> imageFields;
  SmallVector<SmallVector<std::function<Value()>>> images;
};

} // namespace

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

LogicalResult LaunchRewriter::collect(gpu::LaunchFuncOp launch) {
  if (launch->getParentOfType<func::FuncOp>() != entry)
    return launch.emitOpError(
        "is not in the entry; inline the function that holds it");
  if (launch.getAsyncToken() || !launch.getAsyncDependencies().empty() ||
      launch.getAsyncObject())
    return launch.emitOpError("is asynchronous; launches go to the stream of "
                              "the call");
  for (Value operand : launch.getKernelOperands())
    if (!LLVM::isCompatibleType(operand.getType()))
      return launch.emitOpError("passes a ")
             << operand.getType() << "; kernels take pointers and scalars";
  Kernels &kernels = binaries[launch.getKernelModuleName()];
  auto [it, isNew] = kernels.insert({launch.getKernelName(), Kernel()});
  Kernel &kernel = it->second;
  if (isNew)
    kernel.number = kernels.size() - 1;
  IntegerAttr shared;
  if (Value bytes = launch.getDynamicSharedMemorySize()) {
    if (!matchPattern(bytes, m_Constant(&shared)))
      return launch.emitOpError("asks for shared memory that is not a constant");
    kernel.sharedBytes = std::max(kernel.sharedBytes, shared.getInt());
  }
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

/// moe_cuda_call_kernel(call, kernel, sizes, shared_memory, args).
void LaunchRewriter::rewrite(gpu::LaunchFuncOp launch, Value call) {
  b.setLoc(launch.getLoc());
  auto allocate = [&](Type type, int64_t count) -> Value {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&entry.getBody().front());
    return LLVM::AllocaOp::create(b, ptr, type, constant(i64, count));
  };
  auto at = [&](Value array, Type type, int64_t i) -> Value {
    return LLVM::GEPOp::create(b, ptr, type, array,
                               ArrayRef<LLVM::GEPArg>{int32_t(i)});
  };
  gpu::KernelDim3 grid = launch.getGridSizeOperandValues();
  gpu::KernelDim3 block = launch.getBlockSizeOperandValues();
  SmallVector<Value> dims = {grid.x,  grid.y,  grid.z,
                             block.x, block.y, block.z};
  if (launch.hasClusterSize()) {
    gpu::KernelDim3 cluster = launch.getClusterSizeOperandValues();
    dims.append({cluster.x, cluster.y, cluster.z});
  }
  Value sizes = allocate(i64, 9);
  ValueRange operands = launch.getKernelOperands();
  Value args = allocate(ptr, std::max<size_t>(operands.size(), 1));
  SmallVector<Value> places;
  for (Value operand : operands)
    places.push_back(allocate(operand.getType(), 1));
  b.setInsertionPoint(launch);
  for (int64_t i = 0; i < 9; ++i) {
    Value size = constant(i64, 0);
    if (i < static_cast<int64_t>(dims.size())) {
      size = dims[i];
      if (size.getType().isIndex())
        size = arith::IndexCastOp::create(b, i64, size);
      else if (size.getType() != i64)
        size = arith::ExtSIOp::create(b, i64, size);
    }
    LLVM::StoreOp::create(b, size, at(sizes, i64, i));
  }
  for (auto [i, operand] : llvm::enumerate(operands)) {
    LLVM::StoreOp::create(b, operand, places[i]);
    LLVM::StoreOp::create(b, places[i], at(args, ptr, i));
  }
  const Kernel &kernel =
      binaries[launch.getKernelModuleName()][launch.getKernelName()];
  Value shared = launch.getDynamicSharedMemorySize();
  if (!shared)
    shared = constant(i32, 0);
  LLVM::CallOp::create(
      b, TypeRange(),
      FlatSymbolRefAttr::get(b.getContext(), "moe_cuda_call_kernel"),
      ValueRange{call, constant(i32, kernel.number), sizes, shared, args});
  launch.erase();
}

//===----------------------------------------------------------------------===//
// The program: moe_cuda_program and what it points to
//===----------------------------------------------------------------------===//

LLVM::GlobalOp LaunchRewriter::addBytes(const Twine &name, StringRef bytes,
                                        int64_t align) {
  auto type = LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size());
  auto global = LLVM::GlobalOp::create(b, type, /*isConstant=*/true,
                                       LLVM::Linkage::Internal, local(name),
                                       b.getStringAttr(bytes), align);
  return global;
}

LLVM::GlobalOp LaunchRewriter::addStruct(const Twine &name, Type type,
                                         bool isConstant,
                                         function_ref<Value()> build) {
  auto global =
      LLVM::GlobalOp::create(b, type, isConstant, LLVM::Linkage::Internal,
                             local(name), Attribute(), /*alignment=*/8);
  OpBuilder::InsertionGuard guard(b);
  b.createBlock(&global.getInitializerRegion());
  LLVM::ReturnOp::create(b, build());
  return global;
}

Value LaunchRewriter::insert(Value base, int64_t first, ArrayRef<Value> fields,
                             ArrayRef<int64_t> at) {
  for (auto [i, field] : llvm::enumerate(fields)) {
    SmallVector<int64_t> position(at);
    position.push_back(first + i);
    base = LLVM::InsertValueOp::create(b, base, field, position);
  }
  return base;
}

/// The compute capability times 10, of "sm_90a", and whether code for it runs
/// on nothing else.
static std::pair<int64_t, bool> parseChip(StringRef chip) {
  chip.consume_front("sm_");
  bool isOnly = chip.consume_back("a");
  int64_t arch = 0;
  chip.getAsInteger(10, arch);
  return {arch, isOnly};
}

LogicalResult LaunchRewriter::addImage(gpu::BinaryOp binary,
                                       const Kernels &kernels) {
  std::string number = std::to_string(images.size());
  StringRef ptx, cubin, chip;
  for (auto object : binary.getObjectsAttr().getAsRange<gpu::ObjectAttr>()) {
    if (auto target = dyn_cast<NVVM::NVVMTargetAttr>(object.getTarget()))
      chip = target.getChip();
    if (object.getFormat() == gpu::CompilationTarget::Assembly)
      ptx = object.getObject().getValue();
    else
      cubin = object.getObject().getValue();
  }
  if (chip.empty() || (ptx.empty() && cubin.empty()))
    return binary.emitOpError("has no code for an NVIDIA GPU");
  // The text of PTX ends with 0; gpu-module-to-binary may have added one.
  auto text = [&](StringRef bytes) {
    return bytes.ends_with(StringRef("\0", 1)) ? bytes.str()
                                               : bytes.str() + '\0';
  };
  auto name = addBytes(".chip" + number, text(chip), 1);
  LLVM::GlobalOp ptxGlobal, cubinGlobal;
  if (!ptx.empty())
    ptxGlobal = addBytes(".ptx" + number, text(ptx), 16);
  if (!cubin.empty())
    cubinGlobal = addBytes(".cubin" + number, cubin, 64);

  SmallVector<LLVM::GlobalOp> names;
  for (auto [kernelName, kernel] : kernels)
    names.push_back(addBytes(".kernel" + number + "." +
                                 std::to_string(names.size()),
                             text(kernelName.getValue()), 1));
  auto kernelType =
      LLVM::LLVMStructType::getLiteral(b.getContext(), {ptr, i32, i32});
  auto tableType = LLVM::LLVMArrayType::get(kernelType, kernels.size());
  auto table =
      addStruct(".kernels" + number, tableType, /*isConstant=*/true, [&] {
        Value value = LLVM::ZeroOp::create(b, tableType);
        for (auto [i, entry] : llvm::enumerate(kernels)) {
          const Kernel &kernel = entry.second;
          value = insert(value, 0,
                         {LLVM::AddressOfOp::create(b, names[i]),
                          constant(i32, kernel.sharedBytes),
                          constant(i32, kernel.hasLargeClusters)},
                         {static_cast<int64_t>(i)});
        }
        return value;
      });
  auto address = [this](LLVM::GlobalOp global) {
    return [this, global]() mutable -> Value {
      if (!global)
        return LLVM::ZeroOp::create(b, ptr);
      return LLVM::AddressOfOp::create(b, global);
    };
  };
  auto number32 = [this](int64_t value) {
    return [this, value] { return constant(i32, value); };
  };
  auto [arch, isOnly] = parseChip(chip);
  images.push_back({address(name), number32(arch), number32(isOnly),
                    address(cubinGlobal), address(ptxGlobal), address(table),
                    number32(kernels.size())});
  return success();
}

LogicalResult LaunchRewriter::buildProgram() {
  b.setLoc(entry.getLoc());
  b.setInsertionPointToStart(module.getBody());
  for (auto &[symbol, kernels] : binaries) {
    auto binary = module.lookupSymbol<gpu::BinaryOp>(symbol);
    if (!binary)
      return entry.emitError()
             << "@" << entry.getName() << " launches kernels of @"
             << symbol.getValue() << ", which is no gpu.binary";
    if (failed(addImage(binary, kernels)))
      return failure();
    binary.erase();
  }
  auto imageType = LLVM::LLVMStructType::getLiteral(
      b.getContext(), {ptr, i32, i32, ptr, ptr, ptr, i32});
  auto tableType = LLVM::LLVMArrayType::get(imageType, images.size());
  auto table = addStruct(".images", tableType, /*isConstant=*/true, [&] {
    Value value = LLVM::ZeroOp::create(b, tableType);
    for (auto [i, fields] : llvm::enumerate(images))
      for (auto [j, field] : llvm::enumerate(fields))
        value = insert(value, j, {field()}, {static_cast<int64_t>(i)});
    return value;
  });
  auto layer = addBytes(".layer", entry.getName().str() + '\0', 1);
  auto programType =
      LLVM::LLVMStructType::getLiteral(b.getContext(), {ptr, ptr, i32, ptr});
  addStruct("", programType, /*isConstant=*/false, [&] {
    Value value = LLVM::ZeroOp::create(b, programType);
    return insert(value, 0,
                  {LLVM::AddressOfOp::create(b, layer),
                   LLVM::AddressOfOp::create(b, table),
                   constant(i32, images.size())});
  });
  return success();
}

LogicalResult LaunchRewriter::run() {
  SmallVector<gpu::LaunchFuncOp> launches;
  module.walk([&](gpu::LaunchFuncOp launch) { launches.push_back(launch); });
  for (gpu::LaunchFuncOp launch : launches)
    if (failed(collect(launch)))
      return failure();
  unsigned position = entry.getNumArguments();
  if (failed(entry.insertArgument(position, ptr, /*argAttrs=*/{},
                                  entry.getLoc())))
    return failure();
  b.setInsertionPointToStart(module.getBody());
  auto type = LLVM::LLVMFunctionType::get(
      LLVM::LLVMVoidType::get(b.getContext()), {ptr, i32, ptr, i32, ptr});
  LLVM::LLVMFuncOp::create(b, "moe_cuda_call_kernel", type);
  for (gpu::LaunchFuncOp launch : launches)
    rewrite(launch, entry.getArgument(position));
  if (failed(buildProgram()))
    return failure();
  NamedAttrList attrs(entry->getAttrOfType<DictionaryAttr>(kEntryAttr));
  attrs.set("program", FlatSymbolRefAttr::get(b.getContext(), local("")));
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
