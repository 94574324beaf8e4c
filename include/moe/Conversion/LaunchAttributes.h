//===- LaunchAttributes.h - What launches of kernels carry ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Names of the attributes of a gpu.launch_func: lib/Conversion writes them,
/// and the host code of lib/Target does what they say.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_CONVERSION_LAUNCHATTRIBUTES_H
#define MOE_CONVERSION_LAUNCHATTRIBUTES_H

#include "llvm/ADT/StringRef.h"

namespace mlir::moe {

/// Of a launch of a persistent kernel (i64): more blocks than this for each
/// multiprocessor would only wait for each other.
inline constexpr llvm::StringLiteral
    kBlocksPerMultiprocessor("moe.blocks_per_multiprocessor");

/// Of a launch whose blocks wait for each other: the host starts as many as run
/// at the same time, at most, and puts a number that no other launch has into
/// the last operand, an i64.
inline constexpr llvm::StringLiteral kCooperative("moe.cooperative");

} // namespace mlir::moe

#endif // MOE_CONVERSION_LAUNCHATTRIBUTES_H
