//===- RowGroups.cpp - All rows of a dense matmul, in groups --------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RowGroups.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

static Value toI32(OpBuilder &b, Location loc, Value value) {
  return arith::IndexCastOp::create(b, loc, b.getI32Type(), value);
}

Value mlir::moe::buildRowGroup(OpBuilder &b, Location loc, Value rows) {
  Value count = tensor::DimOp::create(b, loc, rows, 0);
  return tensor::FromElementsOp::create(
      b, loc, ValueRange{buildI32(b, loc, 0), toI32(b, loc, count)});
}

Value mlir::moe::buildRowGroups(OpBuilder &b, Location loc, Value rows) {
  // Whole tiles of two, three or four rows.
  constexpr int64_t kRows = 120, kMostGroups = 16;
  Value count = tensor::DimOp::create(b, loc, rows, 0);
  Value size = arith::CeilDivUIOp::create(
      b, loc, count, buildIndex(b, loc, kRows * kMostGroups));
  size = arith::MulIOp::create(b, loc, size, buildIndex(b, loc, kRows));
  SmallVector<Value> offsets = {buildI32(b, loc, 0)};
  for (int64_t group = 1; group < kMostGroups; ++group) {
    Value end =
        arith::MulIOp::create(b, loc, size, buildIndex(b, loc, group));
    offsets.push_back(
        toI32(b, loc, arith::MinUIOp::create(b, loc, end, count)));
  }
  offsets.push_back(toI32(b, loc, count));
  return tensor::FromElementsOp::create(b, loc, offsets);
}

bool mlir::moe::isRouterLike(GroupedMatmulOp op) {
  if (op.isCombining() || op.getNumColumns() > kMostRouterColumns)
    return false;
  for (const GroupedMatmulOp::Product &product : op.getProducts())
    for (const GroupedMatmulOp::Term &term : product)
      if (term.getWeightMap().isFunctionOfDim(GroupedMatmulOp::kExpert))
        return false;
  return true;
}
