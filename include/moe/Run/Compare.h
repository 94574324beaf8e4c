//===- Compare.h - How far a result is from its reference -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_COMPARE_H
#define MOE_RUN_COMPARE_H

#include "moe/Support/TensorFile.h"

namespace mlir::moe {

/// How a result compares with a reference.
struct Difference {
  /// Floats: the largest max|y - ref| / max|ref| of a row, where a row runs
  /// over the last dimension. Infinite where one of the two is NaN or infinite
  /// and the other is not the same, and where y is not 0 in a row of zeros.
  double error = 0;
  /// Integers and bools: how many elements differ.
  uint64_t numUnequal = 0;
  /// The row with the largest error, or the first with an element that differs.
  uint64_t row = 0;
  uint64_t numRows = 0;
  bool isExact = false; ///< Whether integers were compared.

  bool isWithin(double tolerance) const {
    return isExact ? numUnequal == 0 : error <= tolerance;
  }
};

/// Fails when the shapes differ, or when only one of the two has floats,
/// integers, or bools. Reads no values.
llvm::Error checkComparable(const TensorView &result,
                            const TensorView &reference);

/// Compares in f64, or exactly; fails where checkComparable does.
llvm::Expected<Difference> compareTensors(const TensorView &result,
                                          const TensorView &reference);

/// What two correct evaluations of a layer in `type` may differ by, as an error
/// of Difference, with u the unit roundoff (half the distance from 1 to the
/// next number):
///  - f64, f32: 168·u (f32: 1e-5). Sums in another order, or with fused
///    multiply-adds, move by about √K·u of a row's largest value: 64·u for
///    K = 4096, in two contractions on the way, and some u for the activation
///    and the weights.
///  - bf16, f16: 4·u (bf16: 1/64). The stored result can round the other way,
///    which is 2·u of its value; so can the intermediate tensors, of which a
///    sum over many leaves less than another 2·u.
///  - other types: 0.
double getDefaultTolerance(ElementType type);

} // namespace mlir::moe

#endif // MOE_RUN_COMPARE_H
