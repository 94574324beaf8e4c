//===- GPUProgram.h - The code of a layer for GPUs, as data -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_TARGET_ENTRY_GPUPROGRAM_H
#define LIB_TARGET_ENTRY_GPUPROGRAM_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::moe {

/// What the program says of a kernel.
struct GPUKernel {
  unsigned number = 0;
  int64_t sharedBytes = 0;
  bool hasLargeClusters = false;
};

/// The kernels of a gpu.binary that are launched, and those of all binaries.
using GPUKernels = llvm::MapVector<StringAttr, GPUKernel>;
using GPUBinaries = llvm::MapVector<StringAttr, GPUKernels>;

/// Makes the moe_cuda_program of moe/Runtime/CUDALayer.h that `entry` runs, and
/// what it points to, of gpu.binary ops, which it erases. An error if one is
/// missing or has no code for an NVIDIA GPU.
FailureOr<FlatSymbolRefAttr> buildGPUProgram(ModuleOp module,
                                             func::FuncOp entry,
                                             const GPUBinaries &binaries);

} // namespace mlir::moe

#endif // LIB_TARGET_ENTRY_GPUPROGRAM_H
