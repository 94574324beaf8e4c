//===- GPUCode.cpp - Machine code of GPU kernels ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/GPUCode.h"

#include "Subprocess.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Program.h"
#include <cstdlib>

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Chips and tools
//===----------------------------------------------------------------------===//

llvm::Error mlir::moe::checkChip(StringRef chip) {
  constexpr StringRef known[] = {"sm_80", "sm_86",  "sm_89",
                                 "sm_90", "sm_90a", "sm_120"};
  if (llvm::is_contained(known, chip))
    return llvm::Error::success();
  return llvm::createStringError("unknown chip '" + chip +
                                 "'; there are sm_80, sm_86, sm_89, sm_90, "
                                 "sm_90a and sm_120");
}

llvm::Expected<std::string> mlir::moe::findPTXAssembler() {
  const char *named = std::getenv("MOE_PTXAS");
  if (named && *named) {
    llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName(named);
    if (path && llvm::sys::fs::can_execute(*path))
      return *path;
    return llvm::createStringError("MOE_PTXAS names '" + StringRef(named) +
                                   "', which is no program");
  }
  llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName("ptxas");
  return path ? *path : std::string();
}

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

static llvm::Expected<SmallVector<char, 0>>
assemble(StringRef ptx, StringRef chip, const GPUCodeOptions &options) {
  auto input = TemporaryFile::create("ptx");
  if (!input)
    return input.takeError();
  auto output = TemporaryFile::create("cubin");
  if (!output)
    return output.takeError();
  ptx = ptx.take_until([](char c) { return c == 0; });
  if (llvm::Error error = input->write(ArrayRef(ptx.data(), ptx.size())))
    return error;
  if (llvm::Error error =
          runProgram({options.ptxas, ("-arch=" + chip).str(),
                      "-O" + std::to_string(options.optLevel), "-o",
                      output->getPath().str(), input->getPath().str()},
                     "assembling kernels"))
    return error;
  auto cubin = output->read();
  if (!cubin)
    return cubin.takeError();
  StringRef bytes = (*cubin)->getBuffer();
  if (bytes.empty())
    return llvm::createStringError("'" + options.ptxas +
                                   "' reported success, but wrote nothing");
  return SmallVector<char, 0>(bytes.begin(), bytes.end());
}

/// Adds the cubin to a binary that has PTX.
static LogicalResult addCubin(gpu::BinaryOp binary, StringRef chip,
                              const GPUCodeOptions &options) {
  SmallVector<Attribute> objects(binary.getObjects().begin(),
                                 binary.getObjects().end());
  auto ptx = cast<gpu::ObjectAttr>(objects.front());
  auto cubin = assemble(ptx.getObject().getValue(), chip, options);
  if (!cubin)
    return binary.emitError(llvm::toString(cubin.takeError()));
  Builder b(binary.getContext());
  objects.push_back(gpu::ObjectAttr::get(
      b.getContext(), ptx.getTarget(), gpu::CompilationTarget::Binary,
      b.getStringAttr(StringRef(cubin->data(), cubin->size())),
      /*properties=*/DictionaryAttr(), /*kernels=*/gpu::KernelTableAttr()));
  binary.setObjectsAttr(b.getArrayAttr(objects));
  return success();
}

LogicalResult mlir::moe::compileKernels(ModuleOp module, StringRef chip,
                                        const GPUCodeOptions &options) {
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  // Some of nvvm's ops have no intrinsics.
  pm.addPass(createConvertNVVMToLLVMPass());
  GpuNVVMAttachTargetOptions target;
  target.chip = chip.str();
  target.optLevel = options.optLevel;
  pm.addPass(createGpuNVVMAttachTarget(target));
  GpuModuleToBinaryPassOptions binary;
  binary.compilationTarget = "isa";
  pm.addPass(createGpuModuleToBinaryPass(binary));
  if (failed(pm.run(module)))
    return failure();
  if (options.ptxas.empty())
    return success();
  for (auto binary : module.getOps<gpu::BinaryOp>())
    if (failed(addCubin(binary, chip, options)))
      return failure();
  return success();
}

static llvm::Expected<SmallVector<char, 0>>
getCode(ModuleOp module, gpu::CompilationTarget format, StringRef missing) {
  for (auto binary : module.getOps<gpu::BinaryOp>())
    for (auto object : binary.getObjectsAttr().getAsRange<gpu::ObjectAttr>())
      if (object.getFormat() == format) {
        StringRef bytes = object.getObject().getValue();
        if (format == gpu::CompilationTarget::Assembly)
          bytes = bytes.take_until([](char c) { return c == 0; });
        return SmallVector<char, 0>(bytes.begin(), bytes.end());
      }
  return llvm::createStringError(missing);
}

llvm::Expected<SmallVector<char, 0>> mlir::moe::getPTX(ModuleOp module) {
  return getCode(module, gpu::CompilationTarget::Assembly,
                 "the layer has no kernels: it computes nothing");
}

llvm::Expected<SmallVector<char, 0>> mlir::moe::getCubin(ModuleOp module) {
  return getCode(module, gpu::CompilationTarget::Binary,
                 "a cubin needs NVIDIA's assembler, and there is no ptxas in "
                 "PATH; name one with the environment variable MOE_PTXAS, or "
                 "emit PTX, which the driver compiles");
}
