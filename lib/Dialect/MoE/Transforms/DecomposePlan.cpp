//===- DecomposePlan.cpp - moe.plan in upstream dialects -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PlanBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

using namespace mlir;
using namespace mlir::moe;

SmallVector<Value> mlir::moe::decomposePlan(OpBuilder &builder, PlanOp op) {
  Location loc = op.getLoc();
  Value topK = tensor::DimOp::create(builder, loc, op.getIds(), 1);
  // Rows that no choice gets keep this.
  Value none = linalg::FillOp::create(builder, loc, buildI32(builder, loc, -1),
                                      op.getSourceInit())
                   .getResult(0);
  auto place = [&](OpBuilder &b, Value token, Value choice, Value row,
                   ValueRange rows) -> Carried {
    Value position = arith::AddIOp::create(
        b, loc, arith::MulIOp::create(b, loc, token, topK), choice);
    Value id = arith::IndexCastOp::create(b, loc, b.getI32Type(), position);
    return {tensor::InsertOp::create(b, loc, id, rows[0], row)};
  };
  return buildPlan(builder, loc, PlanOperands::of(op), none, place);
}
