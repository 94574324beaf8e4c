//===- KernelBuilder.cpp - Device code in a few words ---------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelBuilder.h"

#include "mlir/Dialect/Math/IR/Math.h"

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

KernelBuilder::Values KernelBuilder::ifElse(Value condition,
                                            function_ref<Values()> thenBody,
                                            function_ref<Values()> elseBody) {
  // The types of results are known when one body is built, so both are built
  // beside the op and moved into it.
  Block thenBlock, elseBlock;
  auto build = [&](Block &block, function_ref<Values()> body) {
    InsertionGuard guard(*this);
    setInsertionPointToStart(&block);
    Values values = body();
    scf::YieldOp::create(*this, values);
    return values;
  };
  Values values = build(thenBlock, thenBody);
  build(elseBlock, elseBody);
  auto op = scf::IfOp::create(*this, ValueRange(values).getTypes(), condition,
                              /*addThenBlock=*/true, /*addElseBlock=*/true);
  op.thenBlock()->getOperations().splice(op.thenBlock()->end(),
                                         thenBlock.getOperations());
  op.elseBlock()->getOperations().splice(op.elseBlock()->end(),
                                         elseBlock.getOperations());
  return op.getResults();
}

Value KernelBuilder::countBits(Value x) {
  return math::CtPopOp::create(*this, x);
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

Value KernelBuilder::matchAny(Value value) {
  return NVVM::MatchSyncOp::create(*this, getI32Type(), i32(-1), value,
                                   NVVM::MatchSyncKind::any);
}

Value KernelBuilder::sumOfLanesUpTo(Value value, Value lane) {
  for (int64_t distance = 1; distance < kWarpSize; distance *= 2) {
    Value below = shuffle(NVVM::ShflKind::up, value, i32(distance));
    Value sum = add(value, below);
    value = select(less(lane, distance), value, sum);
  }
  return value;
}

Value KernelBuilder::reduce(NVVM::ReduxKind kind, Value value) {
  return NVVM::ReduxOp::create(*this, value.getType(), value, kind, i32(-1),
                               /*abs=*/false, /*nan=*/false);
}
