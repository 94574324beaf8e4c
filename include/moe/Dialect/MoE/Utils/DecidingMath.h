//===- DecidingMath.h - The one recipe of functions that decide -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// What decides a selection must come out the same, bit for bit, in the general
// lowering, in CPU code and in GPU code. Stock math.exp becomes libm on one and
// an approximation on another; these helpers emit fixed sequences of IEEE f32
// operations instead (add, multiply, fma, divide, sqrt, integer and bit
// operations), which every target rounds alike. Types: f32 or vectors of it.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_DECIDINGMATH_H
#define MOE_DIALECT_MOE_UTILS_DECIDINGMATH_H

#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// eˣ. Error below 2 ulp; 0 below about −103.97, +inf above about 88.72; NaN
/// stays NaN.
Value buildExp(OpBuilder &builder, Location loc, Value x);

/// ln(1 + u) for u in [0, 1]. Error below 3 ulp.
Value buildLog1pUnit(OpBuilder &builder, Location loc, Value u);

/// 1 / (1 + e⁻ˣ). 0 at −inf, 1 at +inf.
Value buildSigmoid(OpBuilder &builder, Location loc, Value x);

/// √ln(1 + eˣ), the score of DeepSeek-V4. 0 at −inf, +inf at +inf.
Value buildSqrtSoftplus(OpBuilder &builder, Location loc, Value x);

/// x, with NaN replaced by −inf: the order that selection works on is total.
Value buildNaNToNegInf(OpBuilder &builder, Location loc, Value x);

/// Lanes of the fixed tree of sums.
constexpr int64_t kSumLanes = 16;

/// The sum of `load(i)`, 0 ≤ i < size (an index value), over a fixed tree:
/// lane l adds the elements i ≡ l (mod 16) in ascending order, starting at +0;
/// then lane l takes lane l + 8, then l + 4, l + 2, l + 1. A 16-lane vector or
/// half a warp computes the same.
Value buildTreeSum(OpBuilder &builder, Location loc, Value size,
                   function_ref<Value(OpBuilder &, Location, Value)> load);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_DECIDINGMATH_H
