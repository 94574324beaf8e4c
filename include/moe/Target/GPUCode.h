//===- GPUCode.h - Machine code of GPU kernels ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_GPUCODE_H
#define MOE_TARGET_GPUCODE_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Error.h"
#include <string>

namespace mlir::moe {

struct GPUCodeOptions {
  /// The GPUs: "sm_80". None for a layer that runs on the CPU; of several, a
  /// call takes the code that is best for its device.
  llvm::SmallVector<std::string, 2> chips;
  /// 0 to 3, for LLVM and ptxas.
  unsigned optLevel = 3;
  /// Path of ptxas; empty for PTX alone, which the driver compiles.
  std::string ptxas;
};

/// An error, with the names that there are, unless kernels can be made for
/// `chip`.
llvm::Error checkChip(llvm::StringRef chip);

/// NVIDIA's assembler: the environment variable MOE_PTXAS, or ptxas in PATH.
/// Empty if there is none; an error if MOE_PTXAS names none.
llvm::Expected<std::string> findPTXAssembler();

/// Replaces each gpu.module, in the dialects llvm and nvvm, by a gpu.binary
/// with PTX and, where there is a ptxas, a cubin.
LogicalResult compileKernels(ModuleOp module, llvm::StringRef chip,
                             const GPUCodeOptions &options);

/// The PTX, or the cubin, of all kernels of a module that compileKernels
/// compiled. An error if there is none: a layer without kernels, or no ptxas.
llvm::Expected<llvm::SmallVector<char, 0>> getPTX(ModuleOp module);
llvm::Expected<llvm::SmallVector<char, 0>> getCubin(ModuleOp module);

/// libMoECUDARuntime.a, for artifacts of this machine.
llvm::ArrayRef<char> getCUDARuntimeArchive();

} // namespace mlir::moe

#endif // MOE_TARGET_GPUCODE_H
