//===- LogitsKernel.h - The matmul of a router ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_LOGITSKERNEL_H
#define LIB_CONVERSION_GPU_LOGITSKERNEL_H

#include "DeviceRegion.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// The first part of a moe.route: logits, and mix, of tokens and experts.
struct LogitsProblem {
  Value x, router;
  bool isExpertMajor = true, hasMix = false;
  /// E and K.
  int64_t numExperts = 0, length = 0;
  DeviceRegion region;
};

/// The problem, on tensors or memrefs; an error says why it is none and what to
/// change.
llvm::Expected<LogitsProblem> analyzeLogits(RouteOp op);

/// A warp computes `tokens` × `experts` logits, a block `tokenWarps` ×
/// `expertWarps` times as many. Powers of two; a warp at most 32 logits.
struct LogitsTile {
  int64_t tokens, experts, tokenWarps, expertWarps;

  int64_t blockTokens() const { return tokens * tokenWarps; }
  int64_t blockExperts() const { return experts * expertWarps; }
  int64_t numThreads() const { return tokenWarps * expertWarps * kWarpSize; }
};

/// Builds the body of a kernel that writes logits, and mix if there is one,
/// both T×E in f32. Any number of blocks; results do not depend on the tile.
void buildLogitsKernel(KernelBuilder &b, const LogitsProblem &problem,
                       const LogitsTile &tile, const IRMapping &toDevice,
                       Value numTokens, Value logits, Value mix);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_LOGITSKERNEL_H
