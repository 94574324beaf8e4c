//===- WeightLayout.cpp - Along what the weights of a term run ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "WeightLayout.h"

#include "ColumnVectors.h"
#include "RowPanel.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

Type mlir::moe::getWeightType(const Matmul::Term &term) {
  if (!term.decode)
    return getElementTypeOrSelf(term.getWeight().getType());
  auto yield = cast<YieldOp>(term.decode->front().getTerminator());
  return yield.getValues()[0].getType();
}

bool mlir::moe::multipliesBf16(Matmul op) {
  return llvm::all_of(op.getProducts(), [](const Matmul::Product &product) {
    return llvm::all_of(product, [](const Matmul::Term &term) {
      return getRowType(term).isBF16() && getWeightType(term).isBF16();
    });
  });
}

bool mlir::moe::runsAlongSum(const Matmul::Term &term) {
  return term.decode || isUnitStride(term.getWeightMap(), Matmul::kSum);
}

bool mlir::moe::runsAlongColumns(const Matmul::Term &term) {
  // Decoded ones are along k whatever the order of what is stored.
  unsigned bits = getWeightType(term).getIntOrFloatBitWidth();
  return !term.decode && getColumnStride(term.getWeightMap()) &&
         (bits == 16 || bits == 32);
}

bool mlir::moe::isPacked(const Matmul::Term &term) {
  return !term.decode &&
         isPackedWeight(cast<ShapedType>(term.getWeight().getType()),
                        term.getWeightMap());
}
