//===- KernelModule.h - Kernels, their parameters and launches --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A kernel is an llvm.func with one pointer a buffer: a memref descriptor would
// be seven parameters for a matrix, most of them constants.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_KERNELMODULE_H
#define LIB_CONVERSION_GPU_KERNELMODULE_H

#include "KernelBuilder.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::moe {

/// Of a function, true or false: whether its launches become one
/// (moe-merge-launches).
inline constexpr StringLiteral kMergeLaunches = "moe.merge_launches";

/// What a kernel is given: tensor maps by value, buffers (memrefs) of an op,
/// each once, then scalars.
class KernelParameters {
public:
  /// A value of nvgpu's descriptor type; in the kernel, a pointer to 128 bytes.
  void addTensorMap(Value map) { tensorMaps.push_back(map); }
  /// Nothing, where `buffer` is null.
  void addBuffer(Value buffer);
  void addScalar(Value scalar) { scalars.insert(scalar); }

  SmallVector<Type> getTypes(MLIRContext *context) const;
  /// Says of `kernel`, a function of these parameters, which ones are maps.
  void markTensorMaps(LLVM::LLVMFuncOp kernel) const;
  /// From maps and buffers to pointers and from scalars to values, in a kernel.
  IRMapping mapTo(ValueRange arguments) const;
  /// What the host passes.
  SmallVector<Value> buildArguments(ImplicitLocOpBuilder &b) const;

private:
  SmallVector<Value> tensorMaps;
  llvm::SetVector<Value> buffers, scalars;
};

/// The gpu.module that the kernels of a host module go to, made for the first.
class KernelModule {
public:
  explicit KernelModule(ModuleOp host) : host(host) {}

  /// Builds the body of a kernel; `shared` points to dynamic shared memory.
  using BodyBuilder = function_ref<void(
      KernelBuilder &b, const IRMapping &toDevice, Value shared)>;

  /// Adds a kernel for `op`, with threads for one-dimensional blocks, named
  /// after the function that holds `op` and `suffix`. Returns its name.
  SymbolRefAttr addKernel(Operation *op, StringRef suffix, int64_t numThreads,
                          const KernelParameters &parameters,
                          BodyBuilder buildBody);

private:
  gpu::GPUModuleOp get();

  ModuleOp host;
  gpu::GPUModuleOp kernels;
};

/// Launches `kernel` with `numBlocks` (index) blocks in one dimension.
gpu::LaunchFuncOp buildLaunch(ImplicitLocOpBuilder &b, SymbolRefAttr kernel,
                              Value numBlocks, int64_t numThreads,
                              int64_t sharedBytes,
                              const KernelParameters &parameters);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_KERNELMODULE_H
