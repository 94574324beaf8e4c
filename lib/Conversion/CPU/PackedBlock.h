//===- PackedBlock.h - The sums of a block, of packed weights ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_PACKEDBLOCK_H
#define LIB_CONVERSION_CPU_PACKEDBLOCK_H

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

/// Where a part of a panel begins: its weights as PackedWeights has them, their
/// expert, the panel's first column, and k.
struct PackedPlace {
  Value weights, expert, column, sum;
};

/// What a block reads after k before `end` in the panel at `column`, where it
/// multiplies all panels by all of the part, one after the other.
PackedPlace findNextPart(OpBuilder &builder, const MatmulBuilder &matmul,
                         const MatmulBlock &block, const BlockRows &rows,
                         const PackedSum &sum, Value column, Value end);

/// `size` divided by the largest power of two up to `count`: a division, LLVM
/// would move into the loop over k.
Value buildShare(OpBuilder &builder, Location loc, int64_t size, Value count);

/// The products of `sum`, to the block's scratch or added to what is there.
void buildPackedSums(OpBuilder &builder, const MatmulBuilder &matmul,
                     const MatmulBlock &block, const BlockRows &rows,
                     const PackedSum &sum);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_PACKEDBLOCK_H
