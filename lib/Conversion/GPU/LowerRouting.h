//===- LowerRouting.h - Routing as GPU kernels ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_LOWERROUTING_H
#define LIB_CONVERSION_GPU_LOWERROUTING_H

#include "KernelModule.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// True for the ops that lowerRouting takes.
bool isRouting(Operation *op);

/// Puts kernels into `kernels` and launches in the place of `op`, on memrefs;
/// an error says why there are none and what to change, and then nothing is
/// changed. Memory that kernels share is memref.alloc, which is not freed here.
llvm::Error lowerRouting(Operation *op, KernelModule &kernels);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_LOWERROUTING_H
