//===- RandomFill.h - Seeded values for tensors without a file --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Every element is a hash of the seed, the tensor's name and the element's
/// place: the values of one tensor depend on no other, on no order of flags and
/// on no standard library.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_RANDOMFILL_H
#define MOE_RUN_RANDOMFILL_H

#include "moe/Run/HostTensor.h"

namespace mlir::moe {

/// Which values a tensor gets.
struct FillRule {
  enum Kind {
    Normal,  ///< Mean 0, standard deviation 1. Floats only.
    Uniform, ///< In [low, high]; integers include both ends.
  };
  Kind kind = Normal;
  double low = 0, high = 0;

  /// "random normal", "random in [-0.5, 0.5]", "3 everywhere".
  std::string describe() const;
};

/// The rule for weights that keeps the outputs of a layer of the order of its
/// inputs: uniform in ±1/√n, n the last size (the fan-in of weights that are
/// stored outputs × inputs).
FillRule getWeightRule(llvm::ArrayRef<int64_t> shape);

/// Whether every value of `rule` is one of `type`; the error says what is not.
/// Ends of integers must be whole numbers.
llvm::Error checkFillRule(const FillRule &rule, ElementType type);

/// Fills `tensor` by a rule that checkFillRule accepts. `name` picks the values
/// that `seed` gives.
void fillRandom(HostTensor &tensor, const FillRule &rule, uint64_t seed,
                llvm::StringRef name);

} // namespace mlir::moe

#endif // MOE_RUN_RANDOMFILL_H
