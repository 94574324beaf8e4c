//===- SliceBuilder.cpp - Slices of tensors that may be empty ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/SliceBuilder.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe;

static bool hasNoElements(Value tensor) {
  return llvm::is_contained(cast<RankedTensorType>(tensor.getType()).getShape(),
                            0);
}

static SmallVector<OpFoldResult> unitStrides(OpBuilder &builder,
                                             const SlicePlace &place) {
  return SmallVector<OpFoldResult>(place.sizes.size(), builder.getIndexAttr(1));
}

SlicePlace::SlicePlace(OpBuilder &builder, Location loc, Value tensor)
    : sizes(tensor::getMixedSizes(builder, loc, tensor)) {
  offsets.assign(sizes.size(), builder.getIndexAttr(0));
}

Value mlir::moe::buildExtractSlice(OpBuilder &builder, Location loc,
                                   RankedTensorType type, Value source,
                                   const SlicePlace &place) {
  if (hasNoElements(source)) {
    SmallVector<Value> dynamicSizes;
    auto sizes = ArrayRef(place.sizes).take_back(type.getRank());
    for (auto [dim, size] : llvm::enumerate(sizes))
      if (type.isDynamicDim(dim))
        dynamicSizes.push_back(cast<Value>(size));
    return tensor::EmptyOp::create(builder, loc, type, dynamicSizes);
  }
  return tensor::ExtractSliceOp::create(builder, loc, type, source,
                                        place.offsets, place.sizes,
                                        unitStrides(builder, place));
}

Value mlir::moe::buildInsertSlice(OpBuilder &builder, Location loc, Value slice,
                                  Value dest, const SlicePlace &place) {
  if (hasNoElements(dest))
    return dest;
  return tensor::InsertSliceOp::create(builder, loc, slice, dest, place.offsets,
                                       place.sizes,
                                       unitStrides(builder, place));
}
