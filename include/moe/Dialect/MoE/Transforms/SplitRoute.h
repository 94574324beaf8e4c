//===- SplitRoute.h - A route as a matmul, a gate and a plan ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_SPLITROUTE_H
#define MOE_DIALECT_MOE_TRANSFORMS_SPLITROUTE_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// The same as decomposeRoute, but moe.gate and moe.plan are left as ops.
/// `logits` are the T×E values that the region of the logits yields, where the
/// caller has built them; none otherwise.
SmallVector<Value> splitRoute(OpBuilder &builder, RouteOp op,
                              ValueRange logits = {});

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_SPLITROUTE_H
