//===- PackedWeights.cpp - The layout of packed weights -------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/PackedWeights.h"

#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

int64_t mlir::moe::getPanelPair(Type elementType) {
  return elementType.isBF16() ? 2 : 1;
}

SmallVector<int64_t> mlir::moe::getPackedShape(Type elementType,
                                               int64_t numColumns,
                                               int64_t length) {
  int64_t pair = getPanelPair(elementType);
  SmallVector<int64_t> shape = {
      static_cast<int64_t>(llvm::divideCeil(numColumns, kPanelColumns)),
      static_cast<int64_t>(llvm::divideCeil(length, pair)), kPanelColumns};
  if (pair > 1)
    shape.push_back(pair);
  return shape;
}

AffineMap mlir::moe::getPackedMap(Type elementType, AffineExpr expert) {
  MLIRContext *context = elementType.getContext();
  AffineExpr column = getAffineDimExpr(Matmul::kColumn, context);
  AffineExpr sum = getAffineDimExpr(Matmul::kSum, context);
  int64_t pair = getPanelPair(elementType);
  SmallVector<AffineExpr> index = {expert, column.floorDiv(kPanelColumns),
                                   sum.floorDiv(pair), column % kPanelColumns};
  if (pair > 1)
    index.push_back(sum % pair);
  return AffineMap::get(Matmul::kNumDims, 0, index, context);
}

bool mlir::moe::isPackedWeight(ShapedType type, AffineMap map) {
  Type elementType = type.getElementType();
  SmallVector<int64_t> ends = {kPanelColumns};
  if (int64_t pair = getPanelPair(elementType); pair > 1)
    ends.push_back(pair);
  if (map.getNumResults() <= ends.size() ||
      type.getShape().take_back(ends.size()) != ArrayRef(ends))
    return false;
  AffineExpr expert = map.getResult(0);
  return !expert.isFunctionOfDim(Matmul::kColumn) &&
         !expert.isFunctionOfDim(Matmul::kSum) &&
         map == getPackedMap(elementType, expert);
}
