//===- RowBroadcast.h - An element of a row, in all lanes -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_ROWBROADCAST_H
#define LIB_CONVERSION_CPU_ROWBROADCAST_H

#include "MicroKernel.h"

namespace mlir::moe {

/// The element of a row at `dims`, as f32 in `lanes` lanes.
Value broadcastElement(OpBuilder &builder, Location loc,
                       const TileSums::Operand &row, const MatmulIndices &dims,
                       int64_t lanes);

/// The two elements of bf16 from k on, the second one 0 where `count` is 1: the
/// bits of both in each of `lanes` lanes of i32.
Value broadcastPair(OpBuilder &builder, Location loc,
                    const TileSums::Operand &row, const MatmulIndices &dims,
                    int64_t count, int64_t lanes);

/// Element 0 or 1 of lanes that have a pair of bf16, as f32.
Value extractOfPair(OpBuilder &builder, Location loc, Value pairs, int64_t i);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_ROWBROADCAST_H
