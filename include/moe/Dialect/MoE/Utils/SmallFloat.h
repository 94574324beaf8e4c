//===- SmallFloat.h - Floats of 8 and 4 bits as f32 -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_SMALLFLOAT_H
#define MOE_DIALECT_MOE_UTILS_SMALLFLOAT_H

#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// Whether `type` is f8E4M3FN, f8E5M2, f4E2M1FN or f8E8M0FNU, or a vector of
/// them.
bool isSmallFloat(Type type);

/// `value`, of a type that isSmallFloat, in f32: exact, subnormals and NaN
/// included, in a mode that flushes subnormals of f32, too. `hasHalf` says that
/// the machine has an instruction that extends vectors of f16; where it does,
/// that is the way.
Value buildSmallFloatExtension(OpBuilder &builder, Location loc, Value value,
                               bool hasHalf);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_SMALLFLOAT_H
