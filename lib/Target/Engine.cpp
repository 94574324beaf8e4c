//===- Engine.cpp - Compiles a layer in memory ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/Engine.h"

#include "moe/Runtime/CUDALayer.h"
#include "moe/Runtime/moe.h"
#include "moe/Target/CompileInParts.h"
#include "moe/Target/Lowering.h"
#include "llvm/ExecutionEngine/Orc/AbsoluteSymbols.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include <chrono>
#include <new>

using namespace mlir;
using namespace mlir::moe;

static constexpr std::align_val_t kWorkspaceAlignment{64};

llvm::Expected<Workspace> Workspace::allocate(size_t numBytes) {
  void *data = nullptr;
  if (numBytes)
    data = ::operator new(numBytes, kWorkspaceAlignment, std::nothrow);
  if (numBytes && !data)
    return llvm::createStringError("there is no memory for " +
                                   std::to_string(numBytes) +
                                   " bytes of workspace");
  return Workspace({data, Free{numBytes}});
}

void Workspace::Free::operator()(void *memory) const {
  ::operator delete(memory, kWorkspaceAlignment);
}

Engine::Engine(const EntrySignature &signature) : signature(signature) {}
Engine::~Engine() = default;

/// The object files of a lowered module.
static llvm::Expected<SmallVector<ObjectFile>>
compile(ModuleOp module, ArrayRef<std::string> exported,
        const CodeGenOptions &options, StageDumper &stages) {
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> target =
      createTargetMachine(options);
  if (!target)
    return target.takeError();
  llvm::LLVMContext context;
  llvm::Expected<std::unique_ptr<llvm::Module>> llvmModule =
      translateToLLVMIR(module, **target, exported, context);
  if (!llvmModule)
    return llvmModule.takeError();
  return compileInParts(**llvmModule, **target, stages);
}

/// A JIT that finds the C library's functions in this process.
static llvm::Expected<std::unique_ptr<llvm::orc::LLJIT>> createJIT() {
  llvm::Expected<std::unique_ptr<llvm::orc::LLJIT>> jit =
      llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit;
  llvm::orc::LLJIT &engine = **jit;
  auto library = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      engine.getDataLayout().getGlobalPrefix());
  if (!library)
    return library.takeError();
  engine.getMainJITDylib().addGenerator(std::move(*library));
  llvm::orc::SymbolMap runtime;
  auto define = [&](StringRef name, auto *function) {
    runtime[engine.mangleAndIntern(name)] =
        llvm::orc::ExecutorSymbolDef(llvm::orc::ExecutorAddr::fromPtr(function),
                                     llvm::JITSymbolFlags::Exported);
  };
  // The generated code's threads. Its reference is weak: it runs without.
  define("moe_rt_parallel_for", &moe_rt_parallel_for);
  // What code for GPUs calls.
  define("moe_cuda_begin", &moe_cuda_begin);
  define("moe_cuda_call_kernel", &moe_cuda_call_kernel);
  define("moe_cuda_call_cooperative", &moe_cuda_call_cooperative);
  define("moe_cuda_call_encode", &moe_cuda_call_encode);
  define("moe_cuda_error", &moe_cuda_error);
  if (llvm::Error error = engine.getMainJITDylib().define(
          llvm::orc::absoluteSymbols(std::move(runtime))))
    return std::move(error);
  return jit;
}

template <typename Function>
static llvm::Error lookUp(llvm::orc::LLJIT &jit, const std::string &name,
                          Function &function) {
  llvm::Expected<llvm::orc::ExecutorAddr> address = jit.lookup(name);
  if (!address)
    return address.takeError();
  function = address->toPtr<Function>();
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<Engine>>
Engine::create(ModuleOp module, const EntrySignature &signature,
               const CodeGenOptions &options, StageDumper *stages) {
  auto start = std::chrono::steady_clock::now();
  StageDumper noStages;
  std::string packedName = signature.cName + "_packed";
  std::string shapesName = signature.cName + "_shapes";
  std::string workspaceName = signature.cName + "_workspace_packed";
  llvm::Expected<SmallVector<ObjectFile>> objects =
      compile(module, {packedName, shapesName, workspaceName}, options,
              stages ? *stages : noStages);
  if (!objects)
    return objects.takeError();
  llvm::Expected<std::unique_ptr<llvm::orc::LLJIT>> jit = createJIT();
  if (!jit)
    return jit.takeError();
  for (ObjectFile &object : *objects) {
    auto buffer = std::make_unique<llvm::SmallVectorMemoryBuffer>(
        std::move(object), /*RequiresNullTerminator=*/false);
    if (llvm::Error error = (*jit)->addObjectFile(std::move(buffer)))
      return error;
  }

  std::unique_ptr<Engine> engine(new Engine(signature));
  engine->jit = std::move(*jit);
  if (llvm::Error error = lookUp(*engine->jit, packedName, engine->packed))
    return error;
  if (llvm::Error error = lookUp(*engine->jit, shapesName, engine->shapes))
    return error;
  if (llvm::Error error =
          lookUp(*engine->jit, workspaceName, engine->workspace))
    return error;
  std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  engine->compileSeconds = seconds.count();
  return engine;
}

llvm::Error Engine::inferResultShapes(
    ArrayRef<const moe_tensor *> arguments,
    SmallVectorImpl<SmallVector<int64_t>> &resultShapes) const {
  if (arguments.size() != signature.arguments.size())
    return llvm::createStringError("@" + signature.name + " takes " +
                                   std::to_string(signature.arguments.size()) +
                                   " arguments, not " +
                                   std::to_string(arguments.size()));
  size_t numSizes = 0;
  for (const EntryTensor &result : signature.results)
    numSizes += result.shape.size();
  SmallVector<int64_t> sizes(numSizes);
  int32_t status = shapes(arguments.data(), sizes.data());
  if (status != MOE_OK)
    return statusToError(status, signature, arguments);

  resultShapes.clear();
  ArrayRef<int64_t> rest = sizes;
  for (const EntryTensor &result : signature.results) {
    size_t rank = result.shape.size();
    SmallVector<int64_t> &shape =
        resultShapes.emplace_back(rest.take_front(rank));
    llvm::replace(shape, int64_t(-1), ShapedType::kDynamic);
    rest = rest.drop_front(rank);
  }
  return llvm::Error::success();
}

size_t Engine::getWorkspaceBytes(ArrayRef<const moe_tensor *> tensors) const {
  if (tensors.size() < signature.arguments.size())
    return 0;
  return workspace(tensors.data());
}

llvm::Error Engine::call(ArrayRef<const moe_tensor *> tensors) const {
  auto workspace = Workspace::allocate(getWorkspaceBytes(tensors));
  if (!workspace)
    return workspace.takeError();
  return call(tensors, *workspace);
}

llvm::Error Engine::call(ArrayRef<const moe_tensor *> tensors,
                         const Workspace &workspace) const {
  if (tensors.size() != signature.getNumTensors())
    return llvm::createStringError("@" + signature.name + " takes " +
                                   std::to_string(signature.getNumTensors()) +
                                   " arguments and results, not " +
                                   std::to_string(tensors.size()));
  int32_t status =
      packed(tensors.data(), workspace.getData(), workspace.getNumBytes());
  return statusToError(status, signature, tensors, workspace.getNumBytes());
}

llvm::Error Engine::callOnDevice(ArrayRef<const moe_tensor *> tensors,
                                 void *workspace, size_t workspaceBytes,
                                 void *stream) const {
  if (tensors.size() != signature.getNumTensors())
    return llvm::createStringError("@" + signature.name + " takes " +
                                   std::to_string(signature.getNumTensors()) +
                                   " arguments and results, not " +
                                   std::to_string(tensors.size()));
  using DeviceFunction =
      int32_t (*)(const moe_tensor *const *tensors, void *workspace,
                  size_t workspaceBytes, void *stream);
  // As moe-create-c-entry builds it for GPUs.
  auto function =
      reinterpret_cast<DeviceFunction>(reinterpret_cast<void *>(packed));
  int32_t status = function(tensors.data(), workspace, workspaceBytes, stream);
  if (MOE_STATUS_CODE(status) == MOE_DEVICE_ERROR)
    return llvm::createStringError("@" + signature.name + ": " +
                                   moe_cuda_error());
  return statusToError(status, signature, tensors, workspaceBytes);
}
