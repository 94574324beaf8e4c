//===- SelectKernel.cpp - From logits to ids and weights ------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A warp a token: lane l has the experts l, l + 32, … in registers, later the
// choice l. Step by step what moe.gate decomposes into, with the same recipes
// and the same trees of sums, so that results are equal bit for bit. Keys are
// compared as integers in the order of floats; ties go to the lower id.
//
//===----------------------------------------------------------------------===//

#include "SelectKernel.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/MoE/Utils/DecidingMath.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

using Values = KernelBuilder::Values;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Below the place in the order of any number.
constexpr int64_t kNowhere = std::numeric_limits<int32_t>::min();

/// What lanes have of a row: element l + 32 · i is value i of lane l. `isThere`
/// is null where all lanes have an element.
struct Row {
  Values values, isThere;
};

/// A softmax over a row: what all lanes know of it.
struct Softmax {
  Value maximum, isPosInf, isNegInf, sum;
};

class SelectKernel {
public:
  SelectKernel(KernelBuilder &b, const SelectProblem &problem,
               const IRMapping &toDevice, Value logits, Value mix)
      : b(b), problem(problem), toDevice(toDevice), logits(logits), mix(mix),
        f32(b.getF32Type()), lane(b.rem(b.threadId(), kWarpSize)) {
    for (int64_t first = 0; first < problem.numExperts; first += kWarpSize)
      experts.push_back(b.add(lane, first));
  }

  void build(Value numTokens) {
    constexpr int64_t kWarps = kSelectThreads / kWarpSize;
    Value warp = b.div(b.threadId(), kWarpSize);
    b.loop(b.add(b.mul(b.blockId(), kWarps), warp), numTokens,
           b.mul(b.numBlocks(), kWarps), ValueRange(),
           [&](Value token, ValueRange) -> Values {
             select(b.widen(token));
             return {};
           });
  }

private:
  KernelBuilder &b;
  const SelectProblem &problem;
  const IRMapping &toDevice;
  Value logits, mix;
  Type f32;
  Value lane;
  /// Ids of the lane's experts.
  Values experts;

  //===--------------------------------------------------------------------===//
  // Numbers
  //===--------------------------------------------------------------------===//

  Value number(float value) {
    return arith::ConstantOp::create(b, b.getF32FloatAttr(value));
  }
  Value addF(Value x, Value y) { return arith::AddFOp::create(b, x, y); }
  Value compare(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(b, predicate, x, y);
  }
  Value withoutNaN(Value x) { return buildNaNToNegInf(b, b.getLoc(), x); }

  /// `x`, or `other` where `isThere` does not hold; it is null if it does
  /// everywhere.
  Value where(Value isThere, Value x, Value other) {
    return isThere ? b.select(isThere, x, other) : x;
  }

  Row makeRow(int64_t size) {
    Row row;
    for (int64_t first = 0; first < size; first += kWarpSize)
      row.isThere.push_back(
          first + kWarpSize <= size ? Value() : b.less(lane, size - first));
    return row;
  }

  /// An integer that compares as the float does; −0 is +0. Its own inverse but
  /// for that.
  Value turnNegative(Value bits) {
    Value sign = arith::ShRSIOp::create(b, bits, b.i32(31));
    return b.bitXor(bits, b.bitAnd(sign, b.i32(0x7fffffff)));
  }
  Value toOrder(Value x) {
    Value bits = arith::BitcastOp::create(b, b.getI32Type(), x);
    Value isNegativeZero = b.equal(bits, kNowhere);
    return turnNegative(b.select(isNegativeZero, b.i32(0), bits));
  }
  Value fromOrder(Value place) {
    return arith::BitcastOp::create(b, f32, turnNegative(place));
  }

  /// The largest of a row, as all lanes know it; −inf of an empty one.
  Value buildMaximum(const Row &row) {
    Value best = number(-kInfinity);
    for (auto [x, isThere] : llvm::zip(row.values, row.isThere)) {
      Value isGreater =
          b.both(isThere, compare(arith::CmpFPredicate::OGT, x, best));
      best = b.select(isGreater, x, best);
    }
    return fromOrder(b.reduce(NVVM::ReduxKind::MAX, toOrder(best)));
  }

  /// The sum of a row over the tree of DecidingMath.h. Its 16 sums start at +0
  /// and never become −0, so that adding +0 for what is not there changes
  /// nothing.
  Value buildTreeSum(const Row &row) {
    Value sum = number(0), isLower = b.less(lane, kSumLanes);
    for (auto [x, isThere] : llvm::zip(row.values, row.isThere)) {
      Value own = where(isThere, x, number(0));
      Value other = b.shuffleXor(own, kSumLanes);
      sum = addF(sum, b.select(isLower, own, other));
      sum = addF(sum, b.select(isLower, other, own));
    }
    for (int64_t distance = kSumLanes / 2; distance > 0; distance /= 2)
      sum = addF(sum, b.shuffleXor(sum, distance));
    return sum;
  }

  //===--------------------------------------------------------------------===//
  // Scores
  //===--------------------------------------------------------------------===//

  /// e^(x − maximum); of a row with +inf, 1 for those and 0 for others.
  Value buildPower(const Softmax &softmax, Value x) {
    Value atInf = compare(arith::CmpFPredicate::OEQ, x, number(kInfinity));
    Value indicator = b.select(atInf, number(1), number(0));
    Value difference = arith::SubFOp::create(b, x, softmax.maximum);
    return b.select(softmax.isPosInf, indicator,
                    buildExp(b, b.getLoc(), difference));
  }

  Softmax buildSoftmax(const Row &row) {
    Softmax softmax;
    softmax.maximum = buildMaximum(row);
    softmax.isPosInf =
        compare(arith::CmpFPredicate::OEQ, softmax.maximum, number(kInfinity));
    softmax.isNegInf =
        compare(arith::CmpFPredicate::OEQ, softmax.maximum, number(-kInfinity));
    Row powers = row;
    for (Value &x : powers.values)
      x = buildPower(softmax, x);
    softmax.sum = buildTreeSum(powers);
    return softmax;
  }

  Value buildShare(const Softmax &softmax, Value x) {
    Value share = arith::DivFOp::create(b, buildPower(softmax, x), softmax.sum);
    return b.select(softmax.isNegInf, number(0), share);
  }

  /// The score of a logit; `softmax` is that of all logits, if it is needed.
  Value buildScore(const Softmax &softmax, Value logit) {
    switch (problem.score) {
    case Score::Softmax:
      return buildShare(softmax, logit);
    case Score::Sigmoid:
      return buildSigmoid(b, b.getLoc(), logit);
    case Score::SqrtSoftplus:
      return buildSqrtSoftplus(b, b.getLoc(), logit);
    case Score::None:
      return logit;
    }
    llvm_unreachable("unknown score");
  }

  //===--------------------------------------------------------------------===//
  // Selection
  //===--------------------------------------------------------------------===//

  Value elementOf(Value matrix, Value token, Value expert) {
    Value index = b.add(b.mul(token, problem.numExperts), b.widen(expert));
    return b.load(f32, b.element(matrix, f32, index));
  }
  Value perExpert(Value buffer, Type type, Value expert) {
    return b.load(type,
                  b.element(toDevice.lookup(buffer), type, b.widen(expert)));
  }

  /// The lane's logits; 0 is read where there is none.
  Row loadLogits(Value token) {
    Row row = makeRow(problem.numExperts);
    for (auto [expert, isThere] : llvm::zip(experts, row.isThere)) {
      Value at = where(isThere, expert, b.i32(0));
      row.values.push_back(withoutNaN(elementOf(logits, token, at)));
    }
    return row;
  }

  Row buildKeys(const Row &row, const Softmax &softmax) {
    bool onScores =
        problem.needsScores() && problem.selectOn == SelectOn::Scores;
    Row keys = row;
    for (auto [key, expert, isThere] :
         llvm::zip(keys.values, experts, keys.isThere)) {
      if (onScores)
        key = buildScore(softmax, key);
      if (!problem.bias)
        continue;
      Value at = where(isThere, expert, b.i32(0));
      key = withoutNaN(addF(key, perExpert(problem.bias, f32, at)));
    }
    return keys;
  }

  /// Places in the order of keys; nowhere where there is none.
  Values toOrder(const Row &keys) {
    Values places;
    for (auto [key, isThere] : llvm::zip(keys.values, keys.isThere))
      places.push_back(where(isThere, toOrder(key), b.i32(kNowhere)));
    return places;
  }

  /// The first of the lanes' places in the order of selection, and its id.
  std::pair<Value, Value> findBest(ValueRange places) {
    Value best = places[0], id = experts[0];
    for (size_t i = 1; i < places.size(); ++i) {
      Value isBetter = b.less(best, places[i]);
      best = b.select(isBetter, places[i], best);
      id = b.select(isBetter, experts[i], id);
    }
    Value top = b.reduce(NVVM::ReduxKind::MAX, best);
    Value candidate = b.select(b.equal(best, top), id,
                               b.i32(std::numeric_limits<int32_t>::max()));
    return {top, b.reduce(NVVM::ReduxKind::MIN, candidate)};
  }

  /// `places` without that of expert `id`.
  Values remove(ValueRange places, Value id) {
    Values left;
    for (auto [place, expert] : llvm::zip(places, experts))
      left.push_back(b.select(b.equal(expert, id), b.i32(kNowhere), place));
    return left;
  }

  /// In lane l the id of choice l, 0 in lanes beyond k.
  Value selectBest(Values places) {
    places.push_back(b.i32(0));
    return b
        .loop(b.i32(0), b.i32(problem.topK), b.i32(1), places,
              [&](Value choice, ValueRange carried) -> Values {
                Value id = findBest(carried.drop_back()).second;
                Values next = remove(carried.drop_back(), id);
                next.push_back(
                    b.select(b.equal(lane, choice), id, carried.back()));
                return next;
              })
        .back();
  }

  //===--------------------------------------------------------------------===//
  // Groups
  //===--------------------------------------------------------------------===//

  /// The group of each of the lane's experts.
  Values groupsOfExperts() {
    int64_t size = problem.numExperts / problem.groups.getCount();
    Values groups;
    for (Value expert : experts)
      groups.push_back(b.div(expert, size));
    return groups;
  }

  /// The score of a group, of which `places` are: the largest key, or the sum
  /// of the two largest.
  Value buildGroupScore(Values places) {
    auto [first, id] = findBest(places);
    if (problem.groups.getScore() == GroupScore::Max)
      return fromOrder(first);
    Value second = findBest(remove(places, id)).first;
    return withoutNaN(addF(fromOrder(first), fromOrder(second)));
  }

  /// A bit for each group that is kept. Lane g has group g.
  Value keepGroups(ValueRange places, ValueRange groups) {
    int64_t count = problem.groups.getCount();
    Value scores =
        b.loop(b.i32(0), b.i32(count), b.i32(1), b.i32(kNowhere),
               [&](Value group, ValueRange scores) -> Values {
                 Values members;
                 for (auto [place, own] : llvm::zip(places, groups))
                   members.push_back(
                       b.select(b.equal(own, group), place, b.i32(kNowhere)));
                 Value score = toOrder(buildGroupScore(members));
                 return {b.select(b.equal(lane, group), score, scores[0])};
               })[0];
    return b.loop(b.i32(0), b.i32(problem.groups.getKeep()), b.i32(1),
                  {b.i32(0), scores}, [&](Value, ValueRange carried) -> Values {
                    Value top = b.reduce(NVVM::ReduxKind::MAX, carried[1]);
                    Value isTop = b.ballot(b.equal(carried[1], top));
                    Value best = math::CountTrailingZerosOp::create(b, isTop);
                    Value bit = arith::ShLIOp::create(b, b.i32(1), best);
                    Value left = b.select(b.equal(lane, best), b.i32(kNowhere),
                                          carried[1]);
                    return {b.bitOr(carried[0], bit), left};
                  })[0];
  }

  /// `keys` with those outside the kept groups masked.
  Row maskGroups(Row keys) {
    Values groups = groupsOfExperts();
    Value kept = keepGroups(toOrder(keys), groups);
    bool isZero = problem.groups.getMask() == GroupMask::Zero;
    Value masked = number(isZero ? 0 : -kInfinity);
    for (auto [key, group] : llvm::zip(keys.values, groups)) {
      // Lanes beyond the last expert have no group; a shift must be below 32.
      Value at = b.bitAnd(group, b.i32(kWarpSize - 1));
      Value bit = arith::ShRUIOp::create(b, kept, at);
      key = b.select(b.equal(b.bitAnd(bit, b.i32(1)), 1), key, masked);
    }
    return keys;
  }

  //===--------------------------------------------------------------------===//
  // Weights
  //===--------------------------------------------------------------------===//

  /// The weight of choice l in lane l, before `scale`.
  Value buildWeights(Value token, Value id, const Softmax &softmax) {
    Row row = makeRow(problem.topK);
    Value from = elementOf(mix ? mix : logits, token, id);
    Value weight = from;
    if (problem.scope == SoftmaxScope::Selected) {
      row.values = {withoutNaN(from)};
      weight = buildShare(buildSoftmax(row), row.values[0]);
    } else if (!mix) {
      weight = buildScore(softmax, withoutNaN(from));
    }
    if (!problem.renormalize)
      return weight;
    row.values = {weight};
    return renormalize(row);
  }

  Value renormalize(const Row &weights) {
    Value sum = buildTreeSum(weights);
    APFloat eps = problem.renormalize.getEpsilon();
    if (!eps.isZero()) {
      Value epsilon = number(eps.convertToFloat());
      sum = problem.renormalize.getMode() == EpsMode::Add
                ? addF(sum, epsilon)
                : b.select(compare(arith::CmpFPredicate::OLT, sum, epsilon),
                           epsilon, sum);
    }
    Value isZero = compare(arith::CmpFPredicate::OEQ, sum, number(0));
    Value share = arith::DivFOp::create(b, weights.values[0], sum);
    return b.select(isZero, number(0), share);
  }

  void select(Value token) {
    Row row = loadLogits(token);
    Softmax softmax;
    if (problem.needsScores() && problem.score == Score::Softmax)
      softmax = buildSoftmax(row);
    Row keys = buildKeys(row, softmax);
    if (problem.groups)
      keys = maskGroups(keys);
    Value id = selectBest(toOrder(keys));
    Value weight = buildWeights(token, id, softmax);
    if (problem.scale != 1)
      weight = arith::MulFOp::create(b, weight, number(problem.scale));
    b.onlyIf(b.less(lane, problem.topK), [&] { store(token, id, weight); });
  }

  void store(Value token, Value id, Value weight) {
    Value choice = b.widen(lane);
    Values made =
        inlineDeviceRegion(b, problem.region, weight,
                           {token, b.widen(id), choice, Value()}, toDevice);
    Value index = b.add(b.mul(token, problem.topK), choice);
    b.store(made[0], b.element(toDevice.lookup(problem.weights),
                               made[0].getType(), index));
    Type i32 = b.getI32Type();
    if (problem.idMap)
      id = perExpert(problem.idMap, i32, id);
    b.store(id, b.element(toDevice.lookup(problem.ids), i32, index));
  }
};

} // namespace

void mlir::moe::buildSelectKernel(KernelBuilder &b,
                                  const SelectProblem &problem,
                                  const IRMapping &toDevice, Value numTokens,
                                  Value logits, Value mix) {
  SelectKernel(b, problem, toDevice, logits, mix).build(numTokens);
}
