//===- RoundedArithmetic.h - Arithmetic of narrow floats --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_PIPELINES_ROUNDEDARITHMETIC_H
#define LIB_PIPELINES_ROUNDEDARITHMETIC_H

#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"

namespace mlir::moe {

/// Extensions of smaller floats are expanded; bf16 and f16 operations become f32
/// ones that round after each step: the same roundings on every machine.
void addRoundedArithmetic(OpPassManager &pm);

} // namespace mlir::moe

#endif // LIB_PIPELINES_ROUNDEDARITHMETIC_H
