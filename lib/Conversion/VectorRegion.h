//===- VectorRegion.h - Scalar regions on vectors ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_VECTORREGION_H
#define LIB_CONVERSION_VECTORREGION_H

#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// The first op of `region` (one block) that does not map over the elements of
/// vectors; null if all do.
Operation *findScalarOnlyOp(Region &region);

/// Clones `region` with vectors of `lanes` elements for its scalars: `args` are
/// vectors already; scalars from above are broadcast. Returns what it yields.
/// Needs findScalarOnlyOp to have found none.
SmallVector<Value> inlineOnVectors(OpBuilder &builder, Location loc,
                                   Region &region, ValueRange args,
                                   int64_t lanes);

} // namespace mlir::moe

#endif // LIB_CONVERSION_VECTORREGION_H
