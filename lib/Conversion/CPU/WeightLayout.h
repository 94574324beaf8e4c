//===- WeightLayout.h - Along what the weights of a term run ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_WEIGHTLAYOUT_H
#define LIB_CONVERSION_CPU_WEIGHTLAYOUT_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// The type of the weights, or of what decodes them.
Type getWeightType(const GroupedMatmulOp::Term &term);

/// True if all rows and all weights of `op` are bf16.
bool multipliesBf16(GroupedMatmulOp op);

/// True if the weights of `term` are stored with k last, E×N×K, or decoded to a
/// panel that is: what MicroKernel.h reads.
bool runsAlongSum(const GroupedMatmulOp::Term &term);

/// True if they are stored with n last, E×K×N or interleaved, in elements of 16
/// or 32 bits: what ColumnKernel.h reads.
bool runsAlongColumns(const GroupedMatmulOp::Term &term);

/// True if they are packed (PackedWeights.h): what PackedKernel.h reads.
bool isPacked(const GroupedMatmulOp::Term &term);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_WEIGHTLAYOUT_H
