//===- DecomposeGate.cpp - moe.gate in upstream dialects -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// One token at a time: scores and keys of its E experts go to two scratch
// tensors, then k rounds each take the best expert that is left. "Left" needs
// no flags: ids come in the order (key descending, id ascending), so what is
// left is what comes after the last one taken.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Transforms/Statistics.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/DecidingMath.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

namespace {

using Load = function_ref<Value(OpBuilder &, Location, Value)>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A position in the order of selection.
struct Ranked {
  Value key; // f32
  Value id;  // i32
};

/// Builds the decomposition of one gate. Values that all tokens share are made
/// once, by the constructor, outside the loop over tokens.
class GateBuilder : ElementBuilder {
public:
  GateBuilder(OpBuilder &builder, GateOp op)
      : ElementBuilder(op.getLoc()), op(op), f32(builder.getF32Type()) {
    zero = buildIndex(builder, loc, 0);
    numTokens = tensor::DimOp::create(builder, loc, op.getLogits(), 0);
    numExperts = tensor::DimOp::create(builder, loc, op.getLogits(), 1);
    topK = tensor::DimOp::create(builder, loc, op.getWeightsInit(), 1);
  }

  SmallVector<Value> build(OpBuilder &builder) {
    return buildFor(builder, loc, zero, numTokens, op.getInits(),
                    [&](OpBuilder &b, Location, Value token,
                        ValueRange carried) -> Carried {
                      return buildToken(b, token, carried[0], carried[1]);
                    });
  }

  /// The weights alone, of ids that were chosen elsewhere.
  Value buildWeightsOf(OpBuilder &builder, Value ids) {
    return buildFor(builder, loc, zero, numTokens, op.getWeightsInit(),
                    [&](OpBuilder &b, Location, Value token,
                        ValueRange carried) -> Carried {
                      Value scores = buildScores(b, token);
                      Value weights =
                          buildWeights(b, token, scores, ids, /*anyIds=*/true);
                      return {storeWeights(b, token, weights, carried[0])};
                    })[0];
  }

private:
  GateOp op;
  Type f32;
  Value zero, numTokens, numExperts, topK;

  Value constant(OpBuilder &b, double value) {
    return buildFloat(b, loc, f32, value);
  }

  /// Fills a fresh row of `size` elements with `value(i)`.
  Value tabulate(OpBuilder &b, Value size, Load value) {
    return buildFor(
        b, loc, zero, size, emptyRow(b, f32, size),
        [&](OpBuilder &b, Location l, Value i, ValueRange row) -> Carried {
          return {insert(b, value(b, l, i), row[0], i)};
        })[0];
  }

  Value loadLogit(OpBuilder &b, Value token, Value expert) {
    return buildNaNToNegInf(b, loc,
                            extract(b, op.getLogits(), {token, expert}));
  }

  /// Softmax of load(0 … size), which holds no NaN. Infinite maxima are the
  /// rules of the op: shifting by them would give NaN.
  Value buildSoftmax(OpBuilder &b, Value size, Load load) {
    Value negInf = constant(b, -kInfinity), posInf = constant(b, kInfinity);
    Value maximum = buildFor(
        b, loc, zero, size, negInf,
        [&](OpBuilder &b, Location l, Value i, ValueRange best) -> Carried {
          Value x = load(b, l, i);
          Value greater = compare(b, arith::CmpFPredicate::OGT, x, best[0]);
          return {select(b, greater, x, best[0])};
        })[0];
    Value isPosInf = compare(b, arith::CmpFPredicate::OEQ, maximum, posInf);
    Value isNegInf = compare(b, arith::CmpFPredicate::OEQ, maximum, negInf);
    Value powers = tabulate(b, size, [&](OpBuilder &b, Location l, Value i) {
      Value x = load(b, l, i);
      Value atInf = compare(b, arith::CmpFPredicate::OEQ, x, posInf);
      Value indicator = select(b, atInf, constant(b, 1.0), constant(b, 0.0));
      Value difference = arith::SubFOp::create(b, l, x, maximum);
      return select(b, isPosInf, indicator, buildExp(b, l, difference));
    });
    Value sum =
        buildTreeSum(b, loc, size, [&](OpBuilder &b, Location, Value i) {
          return extract(b, powers, i);
        });
    return tabulate(b, size, [&](OpBuilder &b, Location l, Value i) {
      Value share = arith::DivFOp::create(b, l, extract(b, powers, i), sum);
      return select(b, isNegInf, constant(b, 0.0), share);
    });
  }

  /// The scores of a token's experts; null where selection and weights need
  /// only logits.
  Value buildScores(OpBuilder &b, Value token) {
    auto logit = [&](OpBuilder &b, Location, Value expert) {
      return loadLogit(b, token, expert);
    };
    bool selectsOnScores = op.getSelectOn() == SelectOn::Scores;
    switch (op.getScore()) {
    case Score::None:
      return {};
    case Score::Softmax:
      if (op.getSoftmaxScope() == SoftmaxScope::Selected ||
          (!selectsOnScores && op.getMix()))
        return {};
      return buildSoftmax(b, numExperts, logit);
    case Score::Sigmoid:
      return tabulate(b, numExperts, [&](OpBuilder &b, Location l, Value e) {
        return buildSigmoid(b, l, logit(b, l, e));
      });
    case Score::SqrtSoftplus:
      return tabulate(b, numExperts, [&](OpBuilder &b, Location l, Value e) {
        return buildSqrtSoftplus(b, l, logit(b, l, e));
      });
    }
    llvm_unreachable("unknown score");
  }

  Value buildKeys(OpBuilder &b, Value token, Value scores) {
    bool onScores = scores && op.getSelectOn() == SelectOn::Scores;
    return tabulate(b, numExperts, [&](OpBuilder &b, Location l, Value expert) {
      Value key =
          onScores ? extract(b, scores, expert) : loadLogit(b, token, expert);
      if (!op.getBias())
        return key;
      Value bias = extract(b, op.getBias(), expert);
      return buildNaNToNegInf(b, l, arith::AddFOp::create(b, l, key, bias));
    });
  }

  /// The best of keys[lower, upper) that comes after `last`; id −1 if none.
  Ranked buildNextBest(OpBuilder &b, Value keys, Value lower, Value upper,
                       Ranked last) {
    Value none = buildI32(b, loc, -1);
    auto best = buildFor(
        b, loc, lower, upper, {constant(b, -kInfinity), none},
        [&](OpBuilder &b, Location, Value i, ValueRange best) -> Carried {
          Value key = extract(b, keys, i), id = toI32(b, i);
          Value lower = compare(b, arith::CmpFPredicate::OLT, key, last.key);
          Value equal = compare(b, arith::CmpFPredicate::OEQ, key, last.key);
          Value later = compare(b, arith::CmpIPredicate::sgt, id, last.id);
          Value isLeft = either(b, lower, both(b, equal, later));
          Value isFirst = compare(b, arith::CmpIPredicate::eq, best[1], none);
          Value isHigher = compare(b, arith::CmpFPredicate::OGT, key, best[0]);
          Value take = both(b, isLeft, either(b, isFirst, isHigher));
          return {select(b, take, key, best[0]), select(b, take, id, best[1])};
        });
    return {best[0], best[1]};
  }

  /// Where a walk in the order of selection starts.
  Ranked beforeAll(OpBuilder &b) {
    return {constant(b, kInfinity), buildI32(b, loc, -1)};
  }

  /// Score of the group keys[lower, upper).
  Value buildGroupScore(OpBuilder &b, Value keys, Value lower, Value upper) {
    Ranked first = buildNextBest(b, keys, lower, upper, beforeAll(b));
    if (op.getGroupsAttr().getScore() == GroupScore::Max)
      return first.key;
    Ranked second = buildNextBest(b, keys, lower, upper, first);
    return buildNaNToNegInf(
        b, loc, arith::AddFOp::create(b, loc, first.key, second.key));
  }

  /// Keys with those outside the kept groups masked.
  Value maskGroups(OpBuilder &b, Value keys) {
    GroupsAttr groups = op.getGroupsAttr();
    Value count = buildIndex(b, loc, groups.getCount());
    Value groupSize = arith::DivUIOp::create(b, loc, numExperts, count);
    auto lowerOf = [&](OpBuilder &b, Location l, Value group) -> Value {
      return arith::MulIOp::create(b, l, group, groupSize);
    };
    Value scores = tabulate(b, count, [&](OpBuilder &b, Location l, Value g) {
      Value lower = lowerOf(b, l, g);
      Value upper = arith::AddIOp::create(b, l, lower, groupSize);
      return buildGroupScore(b, keys, lower, upper);
    });
    double maskKey = groups.getMask() == GroupMask::Zero ? 0.0 : -kInfinity;
    Value masked = tabulate(b, numExperts, [&](OpBuilder &b, Location, Value) {
      return constant(b, maskKey);
    });
    Ranked start = beforeAll(b);
    return buildFor(
        b, loc, zero, buildIndex(b, loc, groups.getKeep()),
        {start.key, start.id, masked},
        [&](OpBuilder &b, Location l, Value, ValueRange carried) -> Carried {
          Ranked next =
              buildNextBest(b, scores, zero, count, {carried[0], carried[1]});
          Value lower = lowerOf(b, l, toIndex(b, next.id));
          Value upper = arith::AddIOp::create(b, l, lower, groupSize);
          Value unmasked = buildFor(
              b, l, lower, upper, carried[2],
              [&](OpBuilder &b, Location, Value e, ValueRange m) -> Carried {
                return {insert(b, extract(b, keys, e), m[0], e)};
              })[0];
          return {next.key, next.id, unmasked};
        })[2];
  }

  /// What the weight of (token, expert) is read from.
  Value loadMix(OpBuilder &b, Value token, Value expert, Value scores) {
    if (op.getMix())
      return extract(b, op.getMix(), {token, expert});
    return scores ? extract(b, scores, expert) : loadLogit(b, token, expert);
  }

  /// Divides `weights` (size k) by their sum as the attribute says.
  Value renormalize(OpBuilder &b, Value weights) {
    RenormalizeAttr attr = op.getRenormalizeAttr();
    Value sum =
        buildTreeSum(b, loc, topK, [&](OpBuilder &b, Location, Value j) {
          return extract(b, weights, j);
        });
    APFloat eps = attr.getEpsilon();
    if (!eps.isZero()) {
      Value epsilon = constant(b, eps.convertToFloat());
      if (attr.getMode() == EpsMode::Add)
        sum = arith::AddFOp::create(b, loc, sum, epsilon);
      else
        sum = select(b, compare(b, arith::CmpFPredicate::OLT, sum, epsilon),
                     epsilon, sum);
    }
    Value isZero = compare(b, arith::CmpFPredicate::OEQ, sum, constant(b, 0.0));
    return tabulate(b, topK, [&](OpBuilder &b, Location l, Value j) {
      Value share = arith::DivFOp::create(b, l, extract(b, weights, j), sum);
      return select(b, isZero, constant(b, 0.0), share);
    });
  }

  /// What the weight of a choice is read from, or `nothing` where `id` is no
  /// expert's.
  Value loadMixOfAny(OpBuilder &b, Value token, Value id, Value scores,
                     double nothing) {
    Value isExpert =
        compare(b, arith::CmpIPredicate::ult, id, toI32(b, numExperts));
    return buildIf(
        b, loc, isExpert,
        [&](OpBuilder &b, Location) -> Carried {
          return {loadMix(b, token, toIndex(b, id), scores)};
        },
        [&](OpBuilder &b, Location) -> Carried {
          return {constant(b, nothing)};
        })[0];
  }

  /// The k weights of a token whose ids are already in `ids`. With `anyIds`
  /// they need not be experts'; such a choice has weight 0 and counts in no
  /// sum.
  Value buildWeights(OpBuilder &b, Value token, Value scores, Value ids,
                     bool anyIds = false) {
    bool isSelected = op.getSoftmaxScope() == SoftmaxScope::Selected;
    auto mixOfChoice = [&](OpBuilder &b, Location l, Value j) -> Value {
      Value id = extract(b, ids, {token, j});
      if (anyIds)
        return loadMixOfAny(b, token, id, scores, isSelected ? -kInfinity : 0);
      // k > E leaves an id of −1; it must not become an address.
      id = arith::MaxSIOp::create(b, l, id, buildI32(b, l, 0));
      return loadMix(b, token, toIndex(b, id), scores);
    };
    Value weights;
    if (isSelected)
      weights = buildSoftmax(b, topK, [&](OpBuilder &b, Location l, Value j) {
        return buildNaNToNegInf(b, l, mixOfChoice(b, l, j));
      });
    else
      weights = tabulate(b, topK, mixOfChoice);
    if (op.getRenormalizeAttr())
      weights = renormalize(b, weights);
    return weights;
  }

  Carried buildToken(OpBuilder &b, Value token, Value weightsOut,
                     Value idsOut) {
    Value scores = buildScores(b, token);
    Value keys = buildKeys(b, token, scores);
    if (op.getGroupsAttr())
      keys = maskGroups(b, keys);
    Ranked start = beforeAll(b);
    idsOut = buildFor(
        b, loc, zero, topK, {start.key, start.id, idsOut},
        [&](OpBuilder &b, Location, Value j, ValueRange carried) -> Carried {
          Ranked next = buildNextBest(b, keys, zero, numExperts,
                                      {carried[0], carried[1]});
          return {next.key, next.id,
                  insert(b, next.id, carried[2], {token, j})};
        })[2];
    Value weights = buildWeights(b, token, scores, idsOut);
    return {storeWeights(b, token, weights, weightsOut), idsOut};
  }

  /// `weightsOut` with the `weights` of a token, scaled.
  Value storeWeights(OpBuilder &b, Value token, Value weights,
                     Value weightsOut) {
    return buildFor(
        b, loc, zero, topK, weightsOut,
        [&](OpBuilder &b, Location l, Value j, ValueRange out) -> Carried {
          Value weight = extract(b, weights, j);
          if (!op.getScale().isExactlyValue(1.0))
            weight = arith::MulFOp::create(
                b, l, weight, constant(b, op.getScale().convertToFloat()));
          return {insert(b, weight, out[0], {token, j})};
        })[0];
  }
};

} // namespace

SmallVector<Value> mlir::moe::decomposeGate(OpBuilder &builder, GateOp op) {
  return GateBuilder(builder, op).build(builder);
}

Value mlir::moe::buildGateWeights(OpBuilder &builder, GateOp op, Value ids) {
  return GateBuilder(builder, op).buildWeightsOf(builder, ids);
}
