//===- LaneSums.h - The sums of the lanes of many vectors -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_LANESUMS_H
#define LIB_CONVERSION_CPU_LANESUMS_H

#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// Adds the lanes of each of `vectors`, all of one type of 2^n ≥ 4 lanes of f32
/// and of rows of `numColumns` vectors each. Returns a vector a row: the sums
/// of its columns in order, filled up to a power of two with lanes that mean
/// nothing.
SmallVector<Value> buildLaneSums(OpBuilder &builder, Location loc,
                                 ArrayRef<Value> vectors, int64_t numColumns);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_LANESUMS_H
