//===- VectorRegion.h - Scalar regions on vectors ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_VECTORREGION_H
#define LIB_CONVERSION_CPU_VECTORREGION_H

#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// The first op of `region` (one block) that does not map over the elements of
/// vectors; null if all do.
Operation *findScalarOnlyOp(Region &region);

/// Another value for an op's only result, given its operands in the copy; null
/// to copy the op.
using VectorRewrite = function_ref<Value(Operation &, ValueRange)>;

/// Clones `region` with vectors of `lanes` elements for its scalars: `args` are
/// such vectors, or scalars that are the same in all lanes, as those from above
/// are. Ops on scalars alone stay scalar, and what a vector meets is broadcast.
/// Returns vectors of what the region yields. Needs findScalarOnlyOp to have
/// found none.
SmallVector<Value> inlineOnVectors(OpBuilder &builder, Location loc,
                                   Region &region, ValueRange args,
                                   int64_t lanes, VectorRewrite rewrite = {});

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_VECTORREGION_H
