//===- MatmulLaunch.h - A grouped matmul's kernel and launch ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_MATMULLAUNCH_H
#define LIB_CONVERSION_GPU_MATMULLAUNCH_H

#include "KernelModule.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Replaces `op`, on memrefs, by the launch of a kernel that `config`
/// describes; an error on `op` if no such kernel can do it.
LogicalResult lowerMatmul(GroupedMatmulOp op, GPUMatmulAttr config,
                          KernelModule &kernels);
LogicalResult lowerMatmul(GroupedMatmulOp op, GPUWgmmaAttr config,
                          KernelModule &kernels);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_MATMULLAUNCH_H
