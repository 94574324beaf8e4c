//===- GroupedMatmulChecks.cpp - Run-time checks of grouped_matmul --------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RuntimeChecks.h"
#include "mlir/Dialect/Affine/Utils.h"
#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// True if `expr` never falls when one of its dimensions grows: then it is
/// largest where all of them are.
bool isMonotone(AffineExpr expr) {
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return true;
  auto constant = dyn_cast<AffineConstantExpr>(binary.getRHS());
  switch (binary.getKind()) {
  case AffineExprKind::Add:
    return isMonotone(binary.getLHS()) && isMonotone(binary.getRHS());
  case AffineExprKind::Mul:
    return constant && constant.getValue() >= 0 && isMonotone(binary.getLHS());
  case AffineExprKind::FloorDiv:
  case AffineExprKind::CeilDiv:
    return constant && constant.getValue() > 0 && isMonotone(binary.getLHS());
  default: // mod
    return false;
  }
}

class GroupedMatmulChecks {
public:
  GroupedMatmulChecks(GroupedMatmulOp op, Checks &c)
      : op(op), c(c), b(c.builder) {}

  void generate() {
    checkSizes();
    checkOffsets(c, op.getOffsets(), numRows());
    Value numExperts =
        arith::SubIOp::create(b, c.loc, c.dim(op.getOffsets(), 0), c.index(1));
    firstRow = c.load(b, op.getOffsets(), c.index(0));
    endRow = c.load(b, op.getOffsets(), numExperts);
    if (op.getSource())
      checkSource();
    checkIndices(numExperts);
    if (op.isCombining())
      checkSlots(c, op.getSlots(), numRows());
  }

private:
  using Dim = GroupedMatmulOp::Dim;
  GroupedMatmulOp op;
  Checks &c;
  OpBuilder &b;
  /// The rows that are computed are [firstRow, endRow).
  Value firstRow, endRow;

  /// c3 and c10 where sizes are dynamic.
  void checkSizes() {
    Value init = op.getInits()[0];
    for (Value other : op.getInits().drop_front()) {
      c.sameSize(other, 0, init, 0, "destinations differ in their rows");
      c.sameSize(other, 1, init, 1, "destinations differ in N");
    }
    SmallVector<Value> rows = valuesOfRows();
    for (Value other : llvm::drop_begin(rows))
      c.sameSize(other, 0, rows[0], 0,
                 "source, rows and destination differ in M");
    if (!op.isCombining())
      return;
    c.sameSize(op.getWeights(), 0, op.getSlots(), 0,
               "weights and slots differ in T");
    c.sameSize(op.getWeights(), 1, op.getSlots(), 1,
               "weights and slots differ in k");
    c.sameSize(init, 0, op.getSlots(), 0,
               "the destination and slots differ in T");
    if (op.getBase())
      for (int64_t dim : {0, 1})
        c.sameSize(op.getBase(), dim, init, dim,
                   "base and the destination differ in size");
    auto slotsType = cast<ShapedType>(op.getSlots().getType());
    if (op.getTopK() && slotsType.isDynamicDim(1))
      c.check(b,
              c.compare(b, arith::CmpIPredicate::eq, c.dim(op.getSlots(), 1),
                        c.index(*op.getTopK())),
              "slots have another number of choices than top_k");
  }

  /// What has M rows, each once. Not empty: without a source no lhs is
  /// gathered.
  SmallVector<Value> valuesOfRows() {
    llvm::SmallSetVector<Value, 4> values;
    if (op.getSource())
      values.insert(op.getSource());
    if (!op.isCombining())
      values.insert(op.getInits()[0]);
    for (const GroupedMatmulOp::Product &product : op.getProducts())
      for (const GroupedMatmulOp::Term &term : product)
        if (!term.isGathered())
          values.insert(term.lhs);
    return llvm::to_vector(values);
  }

  Value numRows() { return c.dim(valuesOfRows().front(), 0); }

  /// Calls `visit(operand, map, K or null)` for all operands with an index but
  /// the lhs: its rows are checked apart, and its K is that of the term.
  void forEachOperand(function_ref<void(Value, AffineMap, Value)> visit) {
    for (const GroupedMatmulOp::Product &product : op.getProducts())
      for (const GroupedMatmulOp::Term &term : product) {
        Value length = c.dim(term.lhs, 1);
        for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
          visit(extra, map, length);
        for (auto [stored, map] : llvm::zip(term.stored, term.storedMaps))
          visit(stored, map, length);
      }
    for (auto [extra, map] :
         llvm::zip(op.getExtras(),
                   op.getExtraMaps().getAsValueRange<AffineMapAttr>()))
      visit(extra, map, Value());
  }

  /// 0 ≤ source[m] for the rows that are computed, and its token is one of all
  /// operands that are indexed by t.
  void checkSource() {
    SmallVector<Value> tokens;
    AffineExpr token = b.getAffineDimExpr(GroupedMatmulOp::kToken);
    forEachOperand([&](Value operand, AffineMap map, Value) {
      for (auto [dim, expr] : llvm::enumerate(map.getResults()))
        if (expr == token)
          tokens.push_back(c.dim(operand, dim));
    });
    for (const GroupedMatmulOp::Product &product : op.getProducts())
      for (const GroupedMatmulOp::Term &term : product)
        if (term.isGathered())
          tokens.push_back(c.dim(term.lhs, 0));
    if (op.isCombining() && op.getTopK())
      tokens.push_back(c.dim(op.getSlots(), 0));
    Value zero = c.index(0);
    Value topK = c.index(op.getTopK().value_or(1));
    buildFor(b, c.loc, firstRow, endRow, {},
             [&](OpBuilder &b, Location l, Value m, ValueRange) -> Carried {
               Value source = c.load(b, op.getSource(), m);
               Value ok = c.compare(b, arith::CmpIPredicate::sge, source, zero);
               Value t = arith::DivSIOp::create(b, l, source, topK);
               for (Value count : tokens)
                 ok = arith::AndIOp::create(
                     b, l, ok,
                     c.compare(b, arith::CmpIPredicate::slt, t, count));
               c.check(b, ok,
                       "the source of a row that is computed is outside "
                       "[0, T·k)");
               return {};
             });
  }

  /// c11: the largest index of each dynamic dimension, where something is
  /// computed at all. The token has been checked with the source.
  void checkIndices(Value numExperts) {
    Value one = c.index(1), zero = c.index(0);
    auto last = [&](Value count) -> Value {
      return arith::SubIOp::create(b, c.loc, count, one);
    };
    Value numColumns = c.dim(op.getInits()[0], 1);
    SmallVector<Value> largest(GroupedMatmulOp::kNumDims, zero);
    largest[GroupedMatmulOp::kExpert] = last(numExperts);
    largest[GroupedMatmulOp::kRow] = last(endRow);
    largest[GroupedMatmulOp::kChoice] = c.index(op.getTopK().value_or(1) - 1);
    largest[GroupedMatmulOp::kColumn] = last(numColumns);
    Value noRows = c.compare(b, arith::CmpIPredicate::sge, firstRow, endRow);
    Value noColumns = c.compare(b, arith::CmpIPredicate::eq, numColumns, zero);
    Value nothing = arith::OrIOp::create(b, c.loc, noRows, noColumns);
    forEachOperand([&](Value operand, AffineMap map, Value length) {
      Value skipped = nothing;
      if (length) {
        largest[GroupedMatmulOp::kSum] = last(length);
        Value empty = c.compare(b, arith::CmpIPredicate::eq, length, zero);
        skipped = arith::OrIOp::create(b, c.loc, nothing, empty);
      }
      for (auto [dim, expr] : llvm::enumerate(map.getResults()))
        checkIndex(operand, dim, expr, largest, skipped);
    });
  }

  void checkIndex(Value operand, int64_t dim, AffineExpr expr,
                  ArrayRef<Value> largest, Value skipped) {
    if (isa<AffineConstantExpr>(expr) || !isMonotone(expr) ||
        expr.isFunctionOfDim(GroupedMatmulOp::kToken))
      return;
    Value index = affine::expandAffineExpr(b, c.loc, expr, largest, {});
    Value inside =
        c.compare(b, arith::CmpIPredicate::slt, index, c.dim(operand, dim));
    c.check(b, arith::OrIOp::create(b, c.loc, skipped, inside),
            "an index expression leaves its operand");
  }
};

} // namespace

void mlir::moe::verifyAtRuntime(GroupedMatmulOp op, Checks &c) {
  GroupedMatmulChecks(op, c).generate();
}
