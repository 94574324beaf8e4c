//===- ColumnVectors.h - Vectors of columns of an operand -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_COLUMNVECTORS_H
#define LIB_CONVERSION_CPU_COLUMNVECTORS_H

#include "MicroKernel.h"

namespace mlir::moe {

/// How far apart consecutive columns n are in memory, if they are in the last
/// dimension and at most four elements apart: 1 for `[e, k, n]`, 2 for the
/// interleaved `[e, k, 2·n + 1]`.
std::optional<int64_t> getColumnStride(AffineMap map);

/// The place of a column among the `stride` that lie in turns, of a map with a
/// column stride: 1 for `[e, k, 2·n + 1]`.
int64_t getColumnPlace(AffineMap map);

/// The elements of `lanes` columns from the n of `dims` on, read at `map`,
/// which has a column stride. Lanes from `numLeft` on are 0; null for none.
Value loadColumnVector(OpBuilder &builder, Location loc, Value buffer,
                       AffineMap map, const MatmulIndices &dims, int64_t lanes,
                       Value numLeft);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_COLUMNVECTORS_H
