//===- WorkClass.h - What a contraction multiplies --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_ANALYSIS_WORKCLASS_H
#define MOE_DIALECT_MOE_ANALYSIS_WORKCLASS_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include <array>

namespace mlir::moe {

/// The classes of contractions, by what a machine multiplies. bf16 that is
/// widened to f32 on its way into a contraction counts as BF16: products of two
/// bf16 are exact in f32.
enum class WorkClass : uint8_t { F64, F32, F16, BF16, Integer };
inline constexpr size_t kNumWorkClasses = 5;

/// Operations of each class, two a multiply-add.
using Operations = std::array<double, kNumWorkClasses>;

/// "f64", ..., "integer".
llvm::StringRef getName(WorkClass type);

double getSum(const Operations &operations);

/// The value before widening casts.
Value getStored(Value value);

/// The class of products of elements of these types.
WorkClass classify(Type lhs, Type rhs);

/// The class of a contraction, by what is stored of its two inputs.
WorkClass classify(linalg::LinalgOp contraction);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_ANALYSIS_WORKCLASS_H
