//===- RouterSoftmax.h - A softmax in front of a gate -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Frameworks that write their router out have a softmax over the experts in
// front of top-k, where moe.gate has score(softmax).
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_ROUTERSOFTMAX_H
#define LIB_DIALECT_MOE_TRANSFORMS_ROUTERSOFTMAX_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/SetVector.h"
#include <optional>

namespace mlir::moe {

struct RouterSoftmax {
  /// T×E, in f32.
  Value logits;
  /// What computes the scores from them.
  llvm::SetVector<Operation *> ops;
};

/// Matches `scores`, T×E in f32, as softmax(logits) over the experts:
/// linalg.softmax, or exp(x − max x) / Σ exp(x − max x) in any elementwise
/// form.
std::optional<RouterSoftmax> matchRouterSoftmax(Value scores);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_ROUTERSOFTMAX_H
