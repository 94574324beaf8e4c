//===- CUDARuntimeArchive.cpp - What artifacts for GPUs are linked with ---===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The build names libMoECUDARuntime.a, which becomes part of this file: an
// artifact then needs nothing that lies beside the compiler.
//
//===----------------------------------------------------------------------===//

#include "moe/Target/GPUCode.h"

asm(".pushsection .rodata\n"
    ".balign 16\n"
    "moe_cuda_runtime_archive:\n"
    ".incbin \"" MOE_CUDA_RUNTIME_ARCHIVE "\"\n"
    "moe_cuda_runtime_archive_end:\n"
    ".globl moe_cuda_runtime_archive\n"
    ".hidden moe_cuda_runtime_archive\n"
    ".globl moe_cuda_runtime_archive_end\n"
    ".hidden moe_cuda_runtime_archive_end\n"
    ".popsection\n");

extern "C" const char moe_cuda_runtime_archive[],
    moe_cuda_runtime_archive_end[];

llvm::ArrayRef<char> mlir::moe::getCUDARuntimeArchive() {
  return llvm::ArrayRef<char>(moe_cuda_runtime_archive,
                              moe_cuda_runtime_archive_end);
}
