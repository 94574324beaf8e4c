//===- GPUProgram.cpp - The code of a layer for GPUs, as data -------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GPUProgram.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class ProgramBuilder {
public:
  ProgramBuilder(ModuleOp module, func::FuncOp entry)
      : module(module), entry(entry), b(entry.getLoc(), entry.getContext()),
        ptr(LLVM::LLVMPointerType::get(b.getContext())), i32(b.getI32Type()) {}

  FailureOr<FlatSymbolRefAttr> build(const GPUBinaries &binaries);

private:
  LogicalResult addImage(gpu::BinaryOp binary, const GPUKernels &kernels);

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
  Type ptr, i32;
  /// Of each image, what makes its fields.
  SmallVector<SmallVector<std::function<Value()>>> images;
};

} // namespace

LLVM::GlobalOp ProgramBuilder::addBytes(const Twine &name, StringRef bytes,
                                        int64_t align) {
  auto type = LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size());
  auto global = LLVM::GlobalOp::create(b, type, /*isConstant=*/true,
                                       LLVM::Linkage::Internal, local(name),
                                       b.getStringAttr(bytes), align);
  return global;
}

LLVM::GlobalOp ProgramBuilder::addStruct(const Twine &name, Type type,
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

Value ProgramBuilder::insert(Value base, int64_t first, ArrayRef<Value> fields,
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

LogicalResult ProgramBuilder::addImage(gpu::BinaryOp binary,
                                       const GPUKernels &kernels) {
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
    names.push_back(
        addBytes(".kernel" + number + "." + std::to_string(names.size()),
                 text(kernelName.getValue()), 1));
  auto kernelType =
      LLVM::LLVMStructType::getLiteral(b.getContext(), {ptr, i32, i32});
  auto tableType = LLVM::LLVMArrayType::get(kernelType, kernels.size());
  auto table =
      addStruct(".kernels" + number, tableType, /*isConstant=*/true, [&] {
        Value value = LLVM::ZeroOp::create(b, tableType);
        for (auto [i, entry] : llvm::enumerate(kernels)) {
          const GPUKernel &kernel = entry.second;
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

FailureOr<FlatSymbolRefAttr>
ProgramBuilder::build(const GPUBinaries &binaries) {
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
  return FlatSymbolRefAttr::get(b.getContext(), local(""));
}

FailureOr<FlatSymbolRefAttr>
mlir::moe::buildGPUProgram(ModuleOp module, func::FuncOp entry,
                           const GPUBinaries &binaries) {
  return ProgramBuilder(module, entry).build(binaries);
}
