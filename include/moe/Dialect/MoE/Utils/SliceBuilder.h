//===- SliceBuilder.h - Slices of tensors that may be empty -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Upstream refuses every offset into a dimension of size 0, the offset 0 too.
// A layer without columns is valid, though: from a tensor without elements
// there is nothing to take, and nothing to put into it.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_SLICEBUILDER_H
#define MOE_DIALECT_MOE_UTILS_SLICEBUILDER_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace mlir::moe {

/// Where a slice lies: an offset and a size for each dimension of the tensor it
/// is a slice of. Strides are 1.
struct SlicePlace {
  SmallVector<OpFoldResult> offsets, sizes;

  /// The whole of `tensor`, to be narrowed down.
  SlicePlace(OpBuilder &builder, Location loc, Value tensor);
};

/// tensor.extract_slice as a `type`, which may lack leading dimensions of size
/// 1; a tensor.empty where `source` has no elements.
Value buildExtractSlice(OpBuilder &builder, Location loc, RankedTensorType type,
                        Value source, const SlicePlace &place);

/// tensor.insert_slice; `dest` itself where that has no elements.
Value buildInsertSlice(OpBuilder &builder, Location loc, Value slice,
                       Value dest, const SlicePlace &place);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_SLICEBUILDER_H
