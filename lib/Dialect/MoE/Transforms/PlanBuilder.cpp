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

/// The same with the choice's expert: (builder, token, choice, id, carried).
using VisitRouted =
    function_ref<Carried(OpBuilder &, Value, Value, Value, ValueRange)>;

class PlanBuilder : ElementBuilder {
public:
  PlanBuilder(OpBuilder &builder, Location loc, const PlanOperands &operands,
              PlaceRow place)
      : ElementBuilder(loc), operands(operands), place(place),
        ids(operands.ids) {
    zero = buildIndex(builder, loc, 0);
    one = buildIndex(builder, loc, 1);
    numTokens = tensor::DimOp::create(builder, loc, ids, 0);
    topK = tensor::DimOp::create(builder, loc, ids, 1);
    numOffsets = tensor::DimOp::create(builder, loc, operands.offsetsInit, 0);
    numExperts = arith::SubIOp::create(builder, loc, numOffsets, one);
    numExpertsI32 = toI32(builder, numExperts);
    dropped = buildI32(builder, loc, -1);
    kept = buildI32(builder, loc, 0);
  }

  Carried build(OpBuilder &b, ValueRange rows) {
    Value marks = operands.capacity ? markWithinCapacity(b) : Value();
    Value offsets = buildOffsets(b, marks);
    // Rows are handed out from a copy of the offsets.
    Value next = linalg::CopyOp::create(b, loc, offsets,
                                        emptyRow(b, b.getI32Type(), numOffsets))
                     .getResult(0);
    Carried state = {next, marks ? marks : operands.slotsInit};
    llvm::append_range(state, rows);
    state = visitChoices(
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
  Value ids, zero, one, numTokens, topK, numOffsets, numExperts, numExpertsI32;
  Value dropped, kept; // i32 −1 and 0

  Value plusOne(OpBuilder &b, Value count) {
    return arith::AddIOp::create(b, loc, count, buildI32(b, loc, 1));
  }
  Value fillZero(OpBuilder &b, Value tensor) {
    return linalg::FillOp::create(b, loc, buildI32(b, loc, 0), tensor)
        .getResult(0);
  }

  /// True if id is in [0, E); as unsigned numbers, −1 is too large as well.
  Value isSomewhere(OpBuilder &b, Value id) {
    return compare(b, arith::CmpIPredicate::ult, id, numExpertsI32);
  }

  /// Visits the choices of the tokens [lower, upper) in `order`.
  Carried visitChoices(OpBuilder &b, Value lower, Value upper, ValueRange state,
                       VisitChoice visit,
                       CapacityOrder order = CapacityOrder::TokenMajor) {
    std::pair<Value, Value> outer(lower, upper), inner(zero, topK);
    bool choiceMajor = order == CapacityOrder::ChoiceMajor;
    if (choiceMajor)
      std::swap(outer, inner);
    auto visitOuter = [&](OpBuilder &b, Location l, Value i, ValueRange state) {
      auto visitInner = [&](OpBuilder &b, Location, Value n, ValueRange state) {
        return choiceMajor ? visit(b, n, i, state) : visit(b, i, n, state);
      };
      return buildFor(b, l, inner.first, inner.second, state, visitInner);
    };
    return buildFor(b, loc, outer.first, outer.second, state, visitOuter);
  }

  /// Visits those of the choices whose id is an expert. Of the others
  /// state[0], which has the shape of ids, gets `otherwise`, if that is given.
  Carried visitRouted(OpBuilder &b, Value lower, Value upper, ValueRange state,
                      VisitRouted visit, Value otherwise = {},
                      CapacityOrder order = CapacityOrder::TokenMajor) {
    auto visitAny = [&](OpBuilder &b, Value t, Value j, ValueRange state) {
      Value id = extract(b, ids, {t, j});
      return buildIf(
          b, loc, isSomewhere(b, id),
          [&](OpBuilder &b, Location) { return visit(b, t, j, id, state); },
          [&](OpBuilder &b, Location) {
            Carried same(state);
            if (otherwise)
              same[0] = insert(b, otherwise, state[0], {t, j});
            return same;
          });
    };
    return visitChoices(b, lower, upper, state, visitAny, order);
  }

  //===--------------------------------------------------------------------===//
  // Capacity
  //===--------------------------------------------------------------------===//

  /// slots with 0 for choices to keep and −1 for the others.
  Value markWithinCapacity(OpBuilder &b) {
    // Counts are i32; a capacity beyond them limits nothing.
    Value most = buildIndex(b, loc, std::numeric_limits<int32_t>::max());
    Value capacity =
        toI32(b, arith::MinSIOp::create(
                     b, loc, most,
                     arith::MaxSIOp::create(b, loc, operands.capacity, zero)));
    Carried state = {operands.slotsInit};
    if (!operands.priority)
      state.push_back(fillZero(b, emptyRow(b, b.getI32Type(), numExperts)));
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
    auto mark = [&](OpBuilder &b, Value t, Value j, Value id,
                    ValueRange state) -> Carried {
      Value expert = toIndex(b, id);
      Value count = extract(b, state[1], expert);
      return {insert(b, buildMark(b, count, capacity), state[0], {t, j}),
              insert(b, plusOne(b, count), state[1], expert)};
    };
    Carried marked =
        visitRouted(b, lower, upper, state, mark, dropped, operands.order);
    if (operands.tokensPerGroup)
      marked[1] = clearCounts(b, lower, upper, marked[1]);
    return marked;
  }

  /// `kept` if fewer than `capacity` choices come `before` this one.
  Value buildMark(OpBuilder &b, Value before, Value capacity) {
    Value keeps = compare(b, arith::CmpIPredicate::slt, before, capacity);
    return select(b, keeps, kept, dropped);
  }

  /// Zeroes the counts that the group [lower, upper) has raised: cheaper than
  /// zeroing E counts a group.
  Value clearCounts(OpBuilder &b, Value lower, Value upper, Value seen) {
    auto clear = [&](OpBuilder &b, Value, Value, Value id,
                     ValueRange state) -> Carried {
      return {insert(b, kept, state[0], toIndex(b, id))};
    };
    return visitRouted(b, lower, upper, seen, clear)[0];
  }

  /// Keeps a choice if fewer than `capacity` choices of its expert in the group
  /// come before it: by higher priority, then by position. Compares all pairs
  /// of the group, (tokens · k)² of them: a sort would be n log n and much more
  /// code, in what is to be obviously right. A layer that is large and capped
  /// by priority sets `tokens_per_group`.
  Carried markByPriority(OpBuilder &b, Value lower, Value upper,
                         ValueRange state, Value capacity) {
    auto mark = [&](OpBuilder &b, Value t, Value j, Value id,
                    ValueRange state) -> Carried {
      Value before = countBefore(b, lower, upper, t, j, id);
      return {insert(b, buildMark(b, before, capacity), state[0], {t, j})};
    };
    return visitRouted(b, lower, upper, state, mark, dropped);
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
      Value higher = compare(b, arith::CmpFPredicate::OGT, other, priority);
      Value equal = compare(b, arith::CmpFPredicate::OEQ, other, priority);
      Value precedes =
          either(b, higher, both(b, equal, isEarlier(b, t2, j2, t, j)));
      Value sameExpert =
          compare(b, arith::CmpIPredicate::eq, extract(b, ids, {t2, j2}), id);
      return {select(b, both(b, sameExpert, precedes), plusOne(b, count[0]),
                     count[0])};
    };
    return visitChoices(b, lower, upper, buildI32(b, loc, 0), visit)[0];
  }

  /// True if (t2, j2) comes before (t, j) in the op's order.
  Value isEarlier(OpBuilder &b, Value t2, Value j2, Value t, Value j) {
    bool choiceMajor = operands.order == CapacityOrder::ChoiceMajor;
    Value outer2 = choiceMajor ? j2 : t2, inner2 = choiceMajor ? t2 : j2;
    Value outer = choiceMajor ? j : t, inner = choiceMajor ? t : j;
    Value less = compare(b, arith::CmpIPredicate::ult, outer2, outer);
    Value equal = compare(b, arith::CmpIPredicate::eq, outer2, outer);
    Value innerLess = compare(b, arith::CmpIPredicate::ult, inner2, inner);
    return either(b, less, both(b, equal, innerLess));
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
    Value counts = visitChoices(
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
