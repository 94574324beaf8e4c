//===- KernelModule.cpp - Kernels, their parameters and launches ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelModule.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

static constexpr StringLiteral kModuleName = "moe_kernels";
static constexpr StringLiteral kSharedName = "moe_shared";

//===----------------------------------------------------------------------===//
// KernelParameters
//===----------------------------------------------------------------------===//

void KernelParameters::addBuffer(Value buffer) {
  if (buffer)
    buffers.insert(buffer);
}

SmallVector<Type> KernelParameters::getTypes(MLIRContext *context) const {
  SmallVector<Type> types(tensorMaps.size(),
                          LLVM::LLVMPointerType::get(context));
  types.append(buffers.size(),
               LLVM::LLVMPointerType::get(context, kGlobalMemory));
  for (Value scalar : scalars)
    types.push_back(scalar.getType());
  return types;
}

void KernelParameters::markTensorMaps(LLVM::LLVMFuncOp kernel) const {
  constexpr int64_t kMapBytes = 128, kMapAlignment = 64;
  Builder b(kernel.getContext());
  auto bytes = LLVM::LLVMArrayType::get(b.getI8Type(), kMapBytes);
  for (unsigned i = 0; i < tensorMaps.size(); ++i) {
    kernel.setArgAttr(i, LLVM::LLVMDialect::getByValAttrName(),
                      TypeAttr::get(bytes));
    kernel.setArgAttr(i, NVVM::NVVMDialect::getGridConstantAttrName(),
                      b.getUnitAttr());
    kernel.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(),
                      b.getI64IntegerAttr(kMapAlignment));
  }
}

IRMapping KernelParameters::mapTo(ValueRange arguments) const {
  IRMapping mapping;
  mapping.map(tensorMaps, arguments.take_front(tensorMaps.size()));
  arguments = arguments.drop_front(tensorMaps.size());
  for (auto [buffer, argument] : llvm::zip(buffers, arguments))
    mapping.map(buffer, argument);
  for (auto [scalar, argument] :
       llvm::zip(scalars, arguments.drop_front(buffers.size())))
    mapping.map(scalar, argument);
  return mapping;
}

SmallVector<Value>
KernelParameters::buildArguments(ImplicitLocOpBuilder &b) const {
  SmallVector<Value> arguments = tensorMaps;
  Type pointer = LLVM::LLVMPointerType::get(b.getContext());
  for (Value buffer : buffers) {
    Value address = memref::ExtractAlignedPointerAsIndexOp::create(b, buffer);
    Value number = arith::IndexCastOp::create(b, b.getI64Type(), address);
    arguments.push_back(LLVM::IntToPtrOp::create(b, pointer, number));
  }
  llvm::append_range(arguments, scalars);
  return arguments;
}

//===----------------------------------------------------------------------===//
// KernelModule
//===----------------------------------------------------------------------===//

gpu::GPUModuleOp KernelModule::get() {
  if (kernels)
    return kernels;
  // An earlier pass may have begun it.
  auto other = host.lookupSymbol<gpu::GPUModuleOp>(kModuleName);
  if (other && other.lookupSymbol<LLVM::GlobalOp>(kSharedName))
    return kernels = other;
  OpBuilder b(host.getContext());
  kernels = gpu::GPUModuleOp::create(b, host.getLoc(), kModuleName);
  SymbolTable(host).insert(kernels); // May be renamed.
  host->setAttr(gpu::GPUDialect::getContainerModuleAttrName(), b.getUnitAttr());
  b.setInsertionPointToStart(kernels.getBody());
  auto bytes = LLVM::LLVMArrayType::get(b.getI8Type(), 0);
  LLVM::GlobalOp::create(b, host.getLoc(), bytes, /*isConstant=*/false,
                         LLVM::Linkage::External, kSharedName, Attribute(),
                         /*alignment=*/1024, kSharedMemory);
  return kernels;
}

SymbolRefAttr KernelModule::addKernel(Operation *op, StringRef suffix,
                                      int64_t numThreads,
                                      const KernelParameters &parameters,
                                      BodyBuilder buildBody) {
  gpu::GPUModuleOp module = get();
  KernelBuilder b(op->getLoc(), op->getContext());
  auto function = op->getParentOfType<FunctionOpInterface>();
  std::string name =
      (function ? function.getName() : StringRef("layer")).str() + "_" +
      suffix.str();
  auto type =
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                  parameters.getTypes(b.getContext()));
  auto kernel = LLVM::LLVMFuncOp::create(b, name, type);
  SymbolTable(module).insert(kernel); // Gets a name of its own.
  kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), b.getUnitAttr());
  kernel->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), b.getUnitAttr());
  kernel->setAttr(
      NVVM::NVVMDialect::getMaxntidAttrName(),
      b.getDenseI32ArrayAttr({static_cast<int32_t>(numThreads), 1, 1}));
  parameters.markTensorMaps(kernel);
  b.setInsertionPointToStart(kernel.addEntryBlock(b));
  Value shared =
      LLVM::AddressOfOp::create(b, b.pointerType(kSharedMemory), kSharedName);
  buildBody(b, parameters.mapTo(kernel.getArguments()), shared);
  LLVM::ReturnOp::create(b, ValueRange());
  return SymbolRefAttr::get(module.getSymNameAttr(),
                            {SymbolRefAttr::get(kernel)});
}

gpu::LaunchFuncOp mlir::moe::buildLaunch(ImplicitLocOpBuilder &b,
                                         SymbolRefAttr kernel, Value numBlocks,
                                         int64_t numThreads,
                                         int64_t sharedBytes,
                                         const KernelParameters &parameters) {
  Value one = arith::ConstantIndexOp::create(b, 1);
  gpu::KernelDim3 grid = {numBlocks, one, one};
  gpu::KernelDim3 block = {arith::ConstantIndexOp::create(b, numThreads), one,
                           one};
  Value shared = arith::ConstantIntOp::create(b, sharedBytes, 32);
  return gpu::LaunchFuncOp::create(b, kernel, grid, block, shared,
                                   parameters.buildArguments(b));
}
