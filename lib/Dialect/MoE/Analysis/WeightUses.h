//===- WeightUses.h - Which tensors are weights -----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_ANALYSIS_WEIGHTUSES_H
#define LIB_DIALECT_MOE_ANALYSIS_WEIGHTUSES_H

#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/DenseSet.h"

namespace mlir::moe {

/// Tells weights from activations in one function. Weights are constants, and
/// arguments that `moe.param` binds to a checkpoint, that are read per expert,
/// that route, or that are static where tokens are not.
class WeightUses {
public:
  explicit WeightUses(FunctionOpInterface function);

  /// True for a weight, for parts of one, and for one that is cast.
  bool isWeight(Value tensor) const;

  /// True for an op that reads and writes tensors: not for views, empty
  /// tensors, fills, casts of weights, and control flow.
  bool isCounted(Operation *op) const;

  /// The tensor before views and casts.
  static Value getRoot(Value tensor);
  /// The tensor before casts.
  static Value getStored(Value tensor);
  /// Contractions and ops of ours inside an op that is not counted, such as a
  /// loop; 1 for a call.
  static unsigned countHidden(Operation *op);

private:
  llvm::DenseSet<Value> arguments;
};

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_ANALYSIS_WEIGHTUSES_H
