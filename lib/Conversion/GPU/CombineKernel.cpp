//===- CombineKernel.cpp - The weighted rows of each token ----------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The rows of a token are added in ascending order of their slots, so results
// do not depend on threads or blocks. Each thread finds that order by itself: k
// times the smallest slot that is above the last one, k² comparisons beside k
// loads of 16 bytes.
//
//===----------------------------------------------------------------------===//

#include "CombineKernel.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// What a thread loads of a row at once, at most.
static constexpr int64_t kLoadBytes = 16;

static int64_t getElementBytes(Value buffer) {
  return cast<ShapedType>(buffer.getType()).getElementTypeBitWidth() / 8;
}

llvm::Expected<CombinePlan> mlir::moe::planCombine(CombineOp op) {
  SmallVector<Value> buffers = {op.getRows(), op.getSlots(), op.getWeights(),
                                op.getInits()[0]};
  if (op.getBase())
    buffers.push_back(op.getBase());
  for (Value buffer : buffers) {
    auto type = cast<ShapedType>(buffer.getType());
    auto memref = dyn_cast<MemRefType>(type);
    if ((memref && !memref.getLayout().isIdentity()) || type.isDynamicDim(1))
      return llvm::createStringError(llvm::formatv(
          "a kernel takes buffers in the default layout with static rows, not "
          "{0}",
          type));
  }
  CombinePlan plan;
  plan.numColumns = cast<ShapedType>(op.getRows().getType()).getDimSize(1);
  plan.topK = cast<ShapedType>(op.getSlots().getType()).getDimSize(1);
  plan.width = kLoadBytes / getElementBytes(op.getRows());
  while (plan.width > 1 && plan.numColumns % plan.width != 0)
    plan.width /= 2;
  plan.numColumnBlocks =
      llvm::divideCeil(plan.numColumns, plan.width * kCombineThreads);
  return plan;
}

namespace {

class CombineKernel {
public:
  CombineKernel(KernelBuilder &b, CombineOp op, const CombinePlan &plan,
                const IRMapping &toDevice, Value numRows)
      : b(b), op(op), plan(plan), toDevice(toDevice), numRows(numRows),
        sumType(VectorType::get({plan.width}, b.getF32Type())) {}

  void build(Value numTokens) {
    Value inBlock = b.mul(b.threadId(), plan.width);
    b.loop(b.blockId(), b.mul(numTokens, plan.numColumnBlocks), b.numBlocks(),
           ValueRange(), [&](Value number, ValueRange) -> SmallVector<Value> {
             Value token = b.div(number, plan.numColumnBlocks);
             Value block = b.rem(number, plan.numColumnBlocks);
             Value column =
                 b.add(b.mul(block, plan.width * kCombineThreads), inBlock);
             b.onlyIf(b.less(column, plan.numColumns),
                      [&] { combine(token, column); });
             return {};
           });
  }

private:
  KernelBuilder &b;
  CombineOp op;
  const CombinePlan &plan;
  const IRMapping &toDevice;
  Value numRows;
  VectorType sumType;

  /// Element (row, column) of a buffer with `width` elements a row.
  Value pointerTo(Value buffer, Value row, Value column, int64_t width) {
    Value index = b.add(b.mul(b.widen(row), width), b.widen(column));
    return b.element(toDevice.lookup(buffer),
                     cast<MemRefType>(buffer.getType()).getElementType(),
                     index);
  }

  /// A number, or a vector, as f32.
  Value extend(Value value) {
    Type type = b.getF32Type();
    if (auto vector = dyn_cast<VectorType>(value.getType()))
      type = vector.clone(type);
    if (value.getType() == type)
      return value;
    return arith::ExtFOp::create(b, type, value);
  }

  Value loadColumns(Value buffer, Value row, Value column) {
    auto type = VectorType::get(
        {plan.width}, cast<MemRefType>(buffer.getType()).getElementType());
    Value loaded = LLVM::LoadOp::create(
        b, type, pointerTo(buffer, row, column, plan.numColumns),
        alignmentOf(buffer));
    return extend(loaded);
  }

  /// Of `width` elements: buffers are aligned to 16 bytes and no more.
  unsigned alignmentOf(Value buffer) {
    return std::min(kLoadBytes, plan.width * getElementBytes(buffer));
  }

  Value isBelow(Value x, Value y) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, x, y);
  }

  /// The smallest slot of `token` that is at least `from`, and its choice;
  /// numRows if there is none. As unsigned numbers −1 is the largest.
  std::pair<Value, Value> findNextSlot(Value token, Value from) {
    auto found = b.loop(
        b.i32(0), b.i32(plan.topK), b.i32(1), {numRows, b.i32(0)},
        [&](Value choice, ValueRange best) -> SmallVector<Value> {
          Value slot = b.load(b.getI32Type(), pointerTo(op.getSlots(), token,
                                                        choice, plan.topK));
          Value isNext =
              arith::CmpIOp::create(b, arith::CmpIPredicate::uge, slot, from);
          Value takes = b.both(isNext, isBelow(slot, best[0]));
          return {b.select(takes, slot, best[0]),
                  b.select(takes, choice, best[1])};
        });
    return {found[0], found[1]};
  }

  /// sums + weights[token, choice] · rows[slot]
  Value addRow(Value token, Value choice, Value slot, Value column,
               Value sums) {
    Type type = cast<MemRefType>(op.getWeights().getType()).getElementType();
    Value weight = extend(
        b.load(type, pointerTo(op.getWeights(), token, choice, plan.topK)));
    Value weights = vector::BroadcastOp::create(b, sumType, weight);
    return math::FmaOp::create(b, weights,
                               loadColumns(op.getRows(), slot, column), sums);
  }

  void combine(Value token, Value column) {
    Value none = arith::ConstantOp::create(b, b.getZeroAttr(sumType));
    Value sums = b.loop(b.i32(0), b.i32(plan.topK), b.i32(1), {b.i32(0), none},
                        [&](Value, ValueRange carried) -> SmallVector<Value> {
                          auto [slot, choice] = findNextSlot(token, carried[0]);
                          auto branch = scf::IfOp::create(
                              b, TypeRange{sumType}, isBelow(slot, numRows),
                              /*addThenBlock=*/true, /*addElseBlock=*/true);
                          {
                            OpBuilder::InsertionGuard guard(b);
                            b.setInsertionPointToStart(branch.thenBlock());
                            scf::YieldOp::create(b, addRow(token, choice, slot,
                                                           column, carried[1]));
                            b.setInsertionPointToStart(branch.elseBlock());
                            scf::YieldOp::create(b, carried[1]);
                          }
                          return {b.add(slot, 1), branch.getResult(0)};
                        })[1];
    if (op.getBase())
      sums = arith::AddFOp::create(b, sums,
                                   loadColumns(op.getBase(), token, column));
    Value out = op.getInits()[0];
    Type type = cast<MemRefType>(out.getType()).getElementType();
    if (!type.isF32())
      sums = arith::TruncFOp::create(b, sumType.clone(type), sums);
    LLVM::StoreOp::create(b, sums,
                          pointerTo(out, token, column, plan.numColumns),
                          alignmentOf(out));
  }
};

} // namespace

void mlir::moe::buildCombineKernel(KernelBuilder &b, CombineOp op,
                                   const CombinePlan &plan,
                                   const IRMapping &toDevice, Value numTokens,
                                   Value numRows) {
  CombineKernel(b, op, plan, toDevice, numRows).build(numTokens);
}
