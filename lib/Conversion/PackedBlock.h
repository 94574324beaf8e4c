//===- PackedBlock.h - The sums of a block, of packed weights ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_PACKEDBLOCK_H
#define LIB_CONVERSION_PACKEDBLOCK_H

#include "MatmulBlock.h"
#include "MicroKernel.h"

namespace mlir::moe {

/// A part of the sums of a term with packed weights, where rows have it, and
/// the part that comes after it in this block (null if none does).
struct PackedSum {
  const SumPart &part;
  TileSums::Operand lhs;
  const SumPart *next;
  /// What the next block of rows begins with.
  const SumPart &first;
};

/// The products of `sum`, to the block's scratch or added to what is there.
void buildPackedSums(OpBuilder &builder, const MatmulBuilder &matmul,
                     const MatmulBlock &block, const BlockRows &rows,
                     const PackedSum &sum);

} // namespace mlir::moe

#endif // LIB_CONVERSION_PACKEDBLOCK_H
