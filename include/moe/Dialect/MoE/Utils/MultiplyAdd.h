//===- MultiplyAdd.h - What a matmul does with two elements -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form of linalg ops that become products of moe.route and
// moe.grouped_matmul, whatever their loops are.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_MULTIPLYADD_H
#define MOE_DIALECT_MOE_UTILS_MULTIPLYADD_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace mlir::moe {

/// True for what factors of a product are stored as: f32, f16 or bf16.
bool isFactorType(Type type);

/// `value` without an extension of its elements, if it is one.
Value skipExtension(Value value);

/// True if an op with two inputs and one init yields out + ext(a) · ext(b), a
/// and b being its inputs in any order. The type of the sum is the caller's
/// business.
bool addsProducts(linalg::LinalgOp op);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_MULTIPLYADD_H
