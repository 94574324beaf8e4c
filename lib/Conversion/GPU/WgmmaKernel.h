//===- WgmmaKernel.h - Grouped matmuls for sm_90a ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_WGMMAKERNEL_H
#define LIB_CONVERSION_GPU_WGMMAKERNEL_H

#include "KernelBuilder.h"
#include "MatmulProblem.h"
#include "TensorMaps.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::moe {

/// Builds, at the insertion point of `b`, the body of a kernel that computes
/// `problem` with TMA and wgmma. It is launched with config.getNumThreads()
/// threads, getSharedBytes() of dynamic shared memory, and any number of
/// blocks: block i of B computes the tiles i, i + B, …
///
/// `toDevice` maps the buffers of the op to pointers to global memory, aligned
/// to 16 bytes, and scalars to values; `tensorMaps` point to the maps of
/// `maps`; `numExperts` is an i32, `shared` points to the dynamic shared
/// memory, aligned to 1024 bytes. `config` has passed checkConfig.
void buildWgmmaKernel(KernelBuilder &b, const MatmulProblem &problem,
                      GPUWgmmaAttr config, const MatmulMaps &maps,
                      const IRMapping &toDevice, ValueRange tensorMaps,
                      Value numExperts, Value shared);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_WGMMAKERNEL_H
