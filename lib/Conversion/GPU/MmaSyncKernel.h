//===- MmaSyncKernel.h - Grouped matmuls for sm_80 and later ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_MMASYNCKERNEL_H
#define LIB_CONVERSION_GPU_MMASYNCKERNEL_H

#include "KernelBuilder.h"
#include "MatmulProblem.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::moe {

/// Builds, at the insertion point of `b`, the body of a kernel that computes
/// `problem` with mma.sync. It is launched with config.getNumThreads() threads,
/// getSharedBytes() of dynamic shared memory, and any number of blocks: block i
/// of B computes the tiles i, i + B, …
///
/// `toDevice` maps the buffers of the op to pointers to global memory, aligned
/// to 16 bytes, and scalars to values; `numExperts` is an i32, `shared` points
/// to the dynamic shared memory. `config` has passed checkConfig.
void buildMmaSyncKernel(KernelBuilder &b, const MatmulProblem &problem,
                        GPUMatmulAttr config, const IRMapping &toDevice,
                        Value numExperts, Value shared);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_MMASYNCKERNEL_H
