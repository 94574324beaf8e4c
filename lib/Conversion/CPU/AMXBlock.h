//===- AMXBlock.h - The sums of a block of columns by AMX -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_AMXBLOCK_H
#define LIB_CONVERSION_CPU_AMXBLOCK_H

#include "MatmulBlock.h"

namespace mlir::moe {

/// Rows of a tile register, and columns of one of f32.
inline constexpr int64_t kAMXTile = 16;

/// Why AMX cannot do all of `op`, and what to change; empty if it can: bf16
/// times bf16, weights packed, with n last, or with k last and columns at one
/// distance.
std::string findAMXObstacle(GroupedMatmulOp op);

/// Memory for tiles on the stack of a task.
AMXBuffers buildAMXBuffers(OpBuilder &builder, const MatmulBuilder &matmul);

/// What buildBlockSums does, for a block with `amx` buffers.
void buildAMXBlockSums(OpBuilder &builder, const MatmulBuilder &matmul,
                       const MatmulBlock &block, const BlockRows &rows);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_AMXBLOCK_H
