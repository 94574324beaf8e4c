//===- PlanBuilder.cpp - The counting sort of choices by expert -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Count the choices of each expert, sum up, then walk the choices in order and
// give each the next row of its expert. With a capacity, a walk before that
// marks the choices to keep, in `slots`.
//
//===----------------------------------------------------------------------===//

#include "PlanBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Utils/DecidingMath.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Called for each choice: (builder, token, choice, carried) → carried.
using VisitChoice =
    function_ref<Carried(OpBuilder &, Value, Value, ValueRange)>;

class PlanBuilder {
public:
  PlanBuilder(OpBuilder &builder, Location loc, const PlanOperands &operands,
              PlaceRow place)
      : operands(operands), place(place), loc(loc), ids(operands.ids) {
    zero = buildIndex(builder, loc, 0);
    one = buildIndex(builder, loc, 1);
    numTokens = tensor::DimOp::create(builder, loc, ids, 0);
    topK = tensor::DimOp::create(builder, loc, ids, 1);
    numOffsets = tensor::DimOp::create(builder, loc, operands.offsetsInit, 0);
    numExperts = arith::SubIOp::create(builder, loc, numOffsets, one);
    numExpertsI32 = arith::IndexCastOp::create(
        builder, loc, builder.getI32Type(), numExperts);
    dropped = buildI32(builder, loc, -1);
    kept = buildI32(builder, loc, 0);
  }

  Carried build(OpBuilder &b, ValueRange rows) {
    Value marks = operands.capacity ? markWithinCapacity(b) : Value();
    Value offsets = buildOffsets(b, marks);
    // Rows are handed out from a copy of the offsets.
    Value next =
        linalg::CopyOp::create(b, loc, offsets, emptyI32(b, numOffsets))
            .getResult(0);
    Carried state = {next, marks ? marks : operands.slotsInit};
    llvm::append_range(state, rows);
    state = visitTokenMajor(
        b, zero, numTokens, state,
        [&](OpBuilder &b, Value token, Value choice, ValueRange state) {
          return placeChoice(b, token, choice, state, marks != nullptr);
        });
    state[0] = offsets;
    return state;
  }

private:
  const PlanOperands &operands;
  PlaceRow place;
  Location loc;
  Value ids, zero, one, numTokens, topK, numOffsets, numExperts, numExpertsI32;
  Value dropped, kept; // i32 −1 and 0

  Value extract(OpBuilder &b, Value tensor, ValueRange at) {
    return tensor::ExtractOp::create(b, loc, tensor, at);
  }
  Value insert(OpBuilder &b, Value value, Value tensor, ValueRange at) {
    return tensor::InsertOp::create(b, loc, value, tensor, at);
  }
  Value compare(OpBuilder &b, arith::CmpIPredicate predicate, Value lhs,
                Value rhs) {
    return arith::CmpIOp::create(b, loc, predicate, lhs, rhs);
  }
  Value both(OpBuilder &b, Value lhs, Value rhs) {
    return arith::AndIOp::create(b, loc, lhs, rhs);
  }
  Value plusOne(OpBuilder &b, Value count) {
    return arith::AddIOp::create(b, loc, count, buildI32(b, loc, 1));
  }
  Value emptyI32(OpBuilder &b, Value size) {
    return tensor::EmptyOp::create(
        b, loc, ArrayRef<OpFoldResult>{getAsOpFoldResult(size)},
        b.getI32Type());
  }
  Value fillZero(OpBuilder &b, Value tensor) {
    return linalg::FillOp::create(b, loc, buildI32(b, loc, 0), tensor)
        .getResult(0);
  }
  Value toIndex(OpBuilder &b, Value id) {
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
  }

  /// True if id is in [0, E); as unsigned numbers, −1 is too large as well.
  Value isSomewhere(OpBuilder &b, Value id) {
    return compare(b, arith::CmpIPredicate::ult, id, numExpertsI32);
  }

  Carried visitTokenMajor(OpBuilder &b, Value lower, Value upper,
                          ValueRange state, VisitChoice visit) {
    return buildFor(b, loc, lower, upper, state,
                    [&](OpBuilder &b, Location l, Value t, ValueRange state) {
                      return buildFor(b, l, zero, topK, state,
                                      [&](OpBuilder &b, Location, Value j,
                                          ValueRange state) {
                                        return visit(b, t, j, state);
                                      });
                    });
  }

  Carried visitChoiceMajor(OpBuilder &b, Value lower, Value upper,
                           ValueRange state, VisitChoice visit) {
    return buildFor(b, loc, zero, topK, state,
                    [&](OpBuilder &b, Location l, Value j, ValueRange state) {
                      return buildFor(b, l, lower, upper, state,
                                      [&](OpBuilder &b, Location, Value t,
                                          ValueRange state) {
                                        return visit(b, t, j, state);
                                      });
                    });
  }

  //===--------------------------------------------------------------------===//
  // Capacity
  //===--------------------------------------------------------------------===//

  /// slots with 0 for choices to keep and −1 for the others.
  Value markWithinCapacity(OpBuilder &b) {
    // Counts are i32; a capacity beyond them limits nothing.
    Value most = buildIndex(b, loc, std::numeric_limits<int32_t>::max());
    Value capacity = arith::IndexCastOp::create(
        b, loc, b.getI32Type(),
        arith::MinSIOp::create(
            b, loc, most,
            arith::MaxSIOp::create(b, loc, operands.capacity, zero)));
    Carried state = {operands.slotsInit};
    if (!operands.priority)
      state.push_back(fillZero(b, emptyI32(b, numExperts)));
    return forEachGroup(
        b, state,
        [&](OpBuilder &b, Value lower, Value upper,
            ValueRange state) -> Carried {
          if (operands.priority)
            return markByPriority(b, lower, upper, state, capacity);
          return markByPosition(b, lower, upper, state, capacity);
        })[0];
  }

  /// Carries `state` through `mark` for each group of tokens [lower, upper).
  Carried forEachGroup(
      OpBuilder &b, ValueRange state,
      function_ref<Carried(OpBuilder &, Value, Value, ValueRange)> mark) {
    if (!operands.tokensPerGroup)
      return mark(b, zero, numTokens, state);
    Value groupSize =
        arith::MaxSIOp::create(b, loc, operands.tokensPerGroup, one);
    return buildFor(
        b, loc, zero, numTokens, state,
        [&](OpBuilder &b, Location l, Value lower, ValueRange state) {
          // min(T − lower, size) rather than lower + size, which may overflow.
          Value left = arith::SubIOp::create(b, l, numTokens, lower);
          Value size = arith::MinSIOp::create(b, l, left, groupSize);
          Value upper = arith::AddIOp::create(b, l, lower, size);
          return mark(b, lower, upper, state);
        },
        groupSize);
  }

  /// Keeps the first `capacity` choices of each expert. state: slots, and how
  /// many choices of each expert the group has had so far.
  Carried markByPosition(OpBuilder &b, Value lower, Value upper,
                         ValueRange state, Value capacity) {
    auto visit = [&](OpBuilder &b, Value t, Value j,
                     ValueRange state) -> Carried {
      Value id = extract(b, ids, {t, j});
      return buildIf(
          b, loc, isSomewhere(b, id),
          [&](OpBuilder &b, Location) -> Carried {
            Value expert = toIndex(b, id);
            Value count = extract(b, state[1], expert);
            Value keeps =
                compare(b, arith::CmpIPredicate::slt, count, capacity);
            Value mark = arith::SelectOp::create(b, loc, keeps, kept, dropped);
            return {insert(b, mark, state[0], {t, j}),
                    insert(b, plusOne(b, count), state[1], expert)};
          },
          [&](OpBuilder &b, Location) -> Carried {
            return {insert(b, dropped, state[0], {t, j}), state[1]};
          });
    };
    bool choiceMajor = operands.order == CapacityOrder::ChoiceMajor;
    Carried marked = choiceMajor
                         ? visitChoiceMajor(b, lower, upper, state, visit)
                         : visitTokenMajor(b, lower, upper, state, visit);
    if (operands.tokensPerGroup)
      marked[1] = clearCounts(b, lower, upper, marked[1]);
    return marked;
  }

  /// Zeroes the counts that the group [lower, upper) has raised: cheaper than
  /// zeroing E counts a group.
  Value clearCounts(OpBuilder &b, Value lower, Value upper, Value seen) {
    auto visit = [&](OpBuilder &b, Value t, Value j,
                     ValueRange state) -> Carried {
      Value id = extract(b, ids, {t, j});
      return buildIf(
          b, loc, isSomewhere(b, id),
          [&](OpBuilder &b, Location) -> Carried {
            return {insert(b, kept, state[0], toIndex(b, id))};
          },
          [&](OpBuilder &, Location) -> Carried { return {state[0]}; });
    };
    return visitTokenMajor(b, lower, upper, seen, visit)[0];
  }

  /// Keeps a choice if fewer than `capacity` choices of its expert in the group
  /// come before it: by higher priority, then by position. Compares all pairs
  /// of the group.
  Carried markByPriority(OpBuilder &b, Value lower, Value upper,
                         ValueRange state, Value capacity) {
    auto visit = [&](OpBuilder &b, Value t, Value j,
                     ValueRange state) -> Carried {
      Value id = extract(b, ids, {t, j});
      return buildIf(
          b, loc, isSomewhere(b, id),
          [&](OpBuilder &b, Location) -> Carried {
            Value before = countBefore(b, lower, upper, t, j, id);
            Value keeps =
                compare(b, arith::CmpIPredicate::slt, before, capacity);
            Value mark = arith::SelectOp::create(b, loc, keeps, kept, dropped);
            return {insert(b, mark, state[0], {t, j})};
          },
          [&](OpBuilder &b, Location) -> Carried {
            return {insert(b, dropped, state[0], {t, j})};
          });
    };
    return visitTokenMajor(b, lower, upper, state, visit);
  }

  /// How many choices of expert `id` in the group come before (t, j).
  Value countBefore(OpBuilder &b, Value lower, Value upper, Value t, Value j,
                    Value id) {
    Value priority =
        buildNaNToNegInf(b, loc, extract(b, operands.priority, {t, j}));
    auto visit = [&](OpBuilder &b, Value t2, Value j2,
                     ValueRange count) -> Carried {
      Value other =
          buildNaNToNegInf(b, loc, extract(b, operands.priority, {t2, j2}));
      Value higher = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT,
                                           other, priority);
      Value equal = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ,
                                          other, priority);
      Value precedes = arith::OrIOp::create(
          b, loc, higher, both(b, equal, isEarlier(b, t2, j2, t, j)));
      Value sameExpert =
          compare(b, arith::CmpIPredicate::eq, extract(b, ids, {t2, j2}), id);
      return {arith::SelectOp::create(b, loc, both(b, sameExpert, precedes),
                                      plusOne(b, count[0]), count[0])};
    };
    return visitTokenMajor(b, lower, upper, buildI32(b, loc, 0), visit)[0];
  }

  /// True if (t2, j2) comes before (t, j) in the op's order.
  Value isEarlier(OpBuilder &b, Value t2, Value j2, Value t, Value j) {
    bool choiceMajor = operands.order == CapacityOrder::ChoiceMajor;
    Value outer2 = choiceMajor ? j2 : t2, inner2 = choiceMajor ? t2 : j2;
    Value outer = choiceMajor ? j : t, inner = choiceMajor ? t : j;
    Value less = compare(b, arith::CmpIPredicate::ult, outer2, outer);
    Value equal = compare(b, arith::CmpIPredicate::eq, outer2, outer);
    Value innerLess = compare(b, arith::CmpIPredicate::ult, inner2, inner);
    return arith::OrIOp::create(b, loc, less, both(b, equal, innerLess));
  }

  //===--------------------------------------------------------------------===//
  // Counting sort
  //===--------------------------------------------------------------------===//

  /// True if choice (t, j) of expert `id` gets a row.
  Value hasRow(OpBuilder &b, Value t, Value j, Value id, Value marks) {
    if (!marks)
      return isSomewhere(b, id);
    return compare(b, arith::CmpIPredicate::eq, extract(b, marks, {t, j}),
                   kept);
  }

  Value buildOffsets(OpBuilder &b, Value marks) {
    Value counts = visitTokenMajor(
        b, zero, numTokens, fillZero(b, operands.offsetsInit),
        [&](OpBuilder &b, Value t, Value j, ValueRange counts) -> Carried {
          Value id = extract(b, ids, {t, j});
          return buildIf(
              b, loc, hasRow(b, t, j, id, marks),
              [&](OpBuilder &b, Location) -> Carried {
                Value end = arith::AddIOp::create(b, loc, toIndex(b, id), one);
                Value count = plusOne(b, extract(b, counts[0], end));
                return {insert(b, count, counts[0], end)};
              },
              [&](OpBuilder &, Location) -> Carried { return {counts[0]}; });
        })[0];
    return buildFor(
        b, loc, one, numOffsets, counts,
        [&](OpBuilder &b, Location l, Value e, ValueRange sums) -> Carried {
          Value before =
              extract(b, sums[0], Value(arith::SubIOp::create(b, l, e, one)));
          Value sum =
              arith::AddIOp::create(b, l, before, extract(b, sums[0], e));
          return {insert(b, sum, sums[0], e)};
        })[0];
  }

  /// state: next, slots, row values….
  Carried placeChoice(OpBuilder &b, Value t, Value j, ValueRange state,
                      bool marked) {
    Value id = extract(b, ids, {t, j});
    Value placed = hasRow(b, t, j, id, marked ? state[1] : Value());
    return buildIf(
        b, loc, placed,
        [&](OpBuilder &b, Location) -> Carried {
          Value expert = toIndex(b, id);
          Value row = extract(b, state[0], expert);
          Carried next = {insert(b, plusOne(b, row), state[0], expert),
                          insert(b, row, state[1], {t, j})};
          llvm::append_range(
              next, place(b, t, j, toIndex(b, row), state.drop_front(2)));
          return next;
        },
        [&](OpBuilder &b, Location) -> Carried {
          Carried next(state);
          next[1] = insert(b, dropped, state[1], {t, j});
          return next;
        });
  }
};

} // namespace

Carried mlir::moe::buildPlan(OpBuilder &builder, Location loc,
                             const PlanOperands &operands, ValueRange rows,
                             PlaceRow place) {
  return PlanBuilder(builder, loc, operands, place).build(builder, rows);
}
