//===- PermuteKernel.h - Rows in the order of the experts -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_PERMUTEKERNEL_H
#define LIB_CONVERSION_GPU_PERMUTEKERNEL_H

#include "KernelBuilder.h"
#include "MatmulProblem.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::moe {

constexpr int64_t kPermuteThreads = 128;

/// Blocks that the elements of a row are for: a thread stores 16 bytes.
int64_t getPermuteBlocks(const MatmulProblem &problem);

/// True if the kernel reads the op's source.
bool permuteReadsSource(const MatmulProblem &problem);

/// Builds, at the insertion point of `b`, the body of a kernel that stores each
/// row that an expert has in `rows`, M×K of the problem's element type:
/// gathered if the problem's rows are, and as its prologue, if any, makes them.
/// To be launched with kPermuteThreads threads and any number of blocks.
/// `numExperts` is an i32.
void buildPermuteKernel(KernelBuilder &b, const MatmulProblem &problem,
                        Value rows, const IRMapping &toDevice,
                        Value numExperts);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_PERMUTEKERNEL_H
