//===- RouterNorms.h - Norms around a gate ----------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Frameworks that write their router out have a softmax over the experts in
// front of top-k, where moe.gate has score(softmax), and divide the weights by
// their sum behind it, where moe.gate has renormalize.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_ROUTERNORMS_H
#define LIB_DIALECT_MOE_TRANSFORMS_ROUTERNORMS_H

#include "moe/Dialect/MoE/IR/MoE.h"
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

struct RouterRenormalization {
  /// T×k, in f32: the weights divided by their sum.
  Value shares;
  /// The sum's epsilon, and how it is used.
  RenormalizeAttr attr;
  /// What computes the shares from the weights; nothing else reads those.
  llvm::SetVector<Operation *> ops;
};

/// Matches what is computed from `weights`, T×k in f32, as w / Σ w over the
/// choices, in any elementwise form, with a constant added to the sum or its
/// lower bound.
std::optional<RouterRenormalization> matchRouterRenormalization(Value weights);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_ROUTERNORMS_H
