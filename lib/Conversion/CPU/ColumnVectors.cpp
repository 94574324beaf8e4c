//===- ColumnVectors.cpp - Vectors of columns of an operand ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ColumnVectors.h"

#include "VectorAccess.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

static constexpr int64_t kMaxStride = 4;

/// What is left of the last index of `map` without `stride`·n.
static AffineExpr getColumnRest(AffineMap map, int64_t stride) {
  AffineExpr column = getAffineDimExpr(Matmul::kColumn, map.getContext());
  return simplifyAffineExpr(map.getResults().back() - column * stride,
                            map.getNumDims(), 0);
}

std::optional<int64_t> mlir::moe::getColumnStride(AffineMap map) {
  for (AffineExpr index : map.getResults().drop_back())
    if (index.isFunctionOfDim(Matmul::kColumn))
      return std::nullopt;
  for (int64_t stride = 1; stride <= kMaxStride; ++stride)
    if (!getColumnRest(map, stride).isFunctionOfDim(Matmul::kColumn))
      return map.getResults().back().isFunctionOfDim(Matmul::kColumn)
                 ? std::optional(stride)
                 : std::nullopt;
  return std::nullopt;
}

int64_t mlir::moe::getColumnPlace(AffineMap map) {
  int64_t stride = *getColumnStride(map);
  auto rest = dyn_cast<AffineConstantExpr>(getColumnRest(map, stride));
  return rest ? rest.getValue() % stride : 0;
}

/// Which of `count` elements belong to the first `numLeft` columns; null where
/// all do.
static Value buildMask(OpBuilder &b, Location loc, int64_t count,
                       int64_t stride, int64_t place, Value numLeft) {
  if (numLeft) {
    auto type = VectorType::get({count}, b.getI1Type());
    // Not beyond the last column: what follows it may be another's memory.
    Value groups =
        arith::MulIOp::create(b, loc, numLeft, buildIndex(b, loc, stride));
    Value end = arith::SubIOp::create(b, loc, groups,
                                      buildIndex(b, loc, stride - 1 - place));
    return vector::CreateMaskOp::create(b, loc, type, end);
  }
  return buildPrefixMask(b, loc, count, count - (stride - 1 - place));
}

Value mlir::moe::loadColumnVector(OpBuilder &b, Location loc, Value buffer,
                                  AffineMap map, const MatmulIndices &dims,
                                  int64_t lanes, Value numLeft) {
  int64_t stride = *getColumnStride(map);
  int64_t place = getColumnPlace(map);
  SmallVector<Value> at = buildIndices(b, loc, map, dims);
  if (place)
    at.back() =
        arith::SubIOp::create(b, loc, at.back(), buildIndex(b, loc, place));
  Value mask = buildMask(b, loc, stride * lanes, stride, place, numLeft);
  Value loaded = loadVector(b, loc, buffer, at, stride * lanes, mask);
  if (stride == 1)
    return loaded;
  SmallVector<int64_t> columns;
  for (int64_t lane = 0; lane < lanes; ++lane)
    columns.push_back(lane * stride + place);
  return vector::ShuffleOp::create(b, loc, loaded, loaded, columns);
}
