//===- CombineKernel.h - The weighted rows of each token --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_COMBINEKERNEL_H
#define LIB_CONVERSION_GPU_COMBINEKERNEL_H

#include "KernelBuilder.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// How a kernel does a moe.combine: a thread adds up `width` neighbouring
/// columns of a token, a block `kCombineThreads` times as many.
struct CombinePlan {
  /// H and k.
  int64_t numColumns, topK;
  int64_t width;
  /// Blocks that the columns of a token are for.
  int64_t numColumnBlocks;
};

constexpr int64_t kCombineThreads = 128;

/// The plan for `op`, on memrefs or on tensors that will have the default
/// layout; an error says why there is none and what to
/// change.
llvm::Expected<CombinePlan> planCombine(CombineOp op);

/// Builds, at the insertion point of `b`, the body of a kernel for `op`, to be
/// launched with kCombineThreads threads and any number of blocks. `toDevice`
/// maps the op's buffers to pointers to global memory, aligned to 16 bytes;
/// `numTokens` and `numRows` are i32.
void buildCombineKernel(KernelBuilder &b, CombineOp op, const CombinePlan &plan,
                        const IRMapping &toDevice, Value numTokens,
                        Value numRows);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_COMBINEKERNEL_H
