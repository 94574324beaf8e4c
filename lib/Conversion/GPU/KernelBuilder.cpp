//===- KernelBuilder.cpp - Device code in a few words ---------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelBuilder.h"

using namespace mlir;
using namespace mlir::moe;

KernelBuilder::Values
KernelBuilder::loop(Value lower, Value upper, Value step, ValueRange inits,
                    function_ref<Values(Value, ValueRange)> body) {
  auto op = scf::ForOp::create(*this, lower, upper, step, inits);
  InsertionGuard guard(*this);
  setInsertionPointToStart(op.getBody());
  Values carried = body(op.getInductionVar(), op.getRegionIterArgs());
  // A loop that carries nothing has its end already.
  if (!inits.empty())
    scf::YieldOp::create(*this, carried);
  return op.getResults();
}

KernelBuilder::Values
KernelBuilder::loopWhile(ValueRange inits,
                         function_ref<Value(ValueRange)> condition,
                         function_ref<Values(ValueRange)> body) {
  auto op = scf::WhileOp::create(
      *this, inits.getTypes(), inits, [&](OpBuilder &, Location, ValueRange) {},
      [&](OpBuilder &, Location, ValueRange) {});
  InsertionGuard guard(*this);
  setInsertionPointToStart(op.getBeforeBody());
  Value goOn = condition(op.getBeforeArguments());
  scf::ConditionOp::create(*this, goOn, op.getBeforeArguments());
  setInsertionPointToStart(op.getAfterBody());
  scf::YieldOp::create(*this, body(op.getAfterArguments()));
  return op.getResults();
}

void KernelBuilder::onlyIf(Value condition, function_ref<void()> body) {
  if (!condition)
    return body();
  auto op = scf::IfOp::create(*this, condition, /*withElseRegion=*/false);
  InsertionGuard guard(*this);
  setInsertionPointToStart(op.thenBlock());
  body();
}

Value KernelBuilder::shuffle(NVVM::ShflKind kind, Value value, Value lane) {
  // All lanes take part; the clamp keeps `up` above lane 0 and `idx` within the
  // warp.
  Value clamp = i32(kind == NVVM::ShflKind::up ? 0 : 31);
  return NVVM::ShflOp::create(*this, value.getType(), i32(-1), value, lane,
                              clamp, kind, UnitAttr());
}

Value KernelBuilder::ballot(Value condition) {
  return NVVM::VoteSyncOp::create(*this, getI32Type(), i32(-1), condition,
                                  NVVM::VoteSyncKind::ballot);
}
