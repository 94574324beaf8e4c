//===- GateToVector.cpp - Gates as vector code ----------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A token at a time, its experts in vectors of 16: scores, the k best by rounds
// that each take the largest number left (VectorRanking.h), weights. A task has
// a block of tokens.
//
//===----------------------------------------------------------------------===//

#include "GateStrategy.h"
#include "VectorRanking.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Utils/DecidingMath.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

#include <limits>

namespace mlir::moe {
#define GEN_PASS_DEF_MOEGATETOVECTOR
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

namespace {

class GateLowering {
public:
  GateLowering(GateOp op, int64_t blockTokens)
      : op(op), loc(op.getLoc()), blockTokens(blockTokens),
        numExperts(op.getNumExperts()), topK(op.getTopK()) {}

  void lower(OpBuilder &b) {
    Value zero = buildIndex(b, loc, 0), one = buildIndex(b, loc, 1);
    Value step = buildIndex(b, loc, blockTokens);
    numTokens = memref::DimOp::create(b, loc, op.getLogits(), zero);
    Value numTasks = arith::CeilDivUIOp::create(b, loc, numTokens, step);
    scf::ParallelOp::create(
        b, loc, ValueRange{zero}, ValueRange{numTasks}, ValueRange{one},
        [&](OpBuilder &b, Location, ValueRange task) {
          Value first = arith::MulIOp::create(b, loc, task[0], step);
          Value end = arith::AddIOp::create(b, loc, first, step);
          end = arith::MinUIOp::create(b, loc, end, numTokens);
          allocateRows(b);
          buildLoop(b, loc, first, end, one,
                    [&](OpBuilder &b, Value token) { buildToken(b, token); });
        });
  }

private:
  GateOp op;
  Location loc;
  int64_t blockTokens, numExperts, topK;
  Value numTokens;
  /// Rows of a task on its stack: scores, and copies of strided rows.
  Value scoresRow, logitsCopy, biasCopy;

  //===--------------------------------------------------------------------===//
  // Rows in memory
  //===--------------------------------------------------------------------===//

  static bool hasAdjacentElements(Value buffer) {
    return cast<MemRefType>(buffer.getType()).isLastDimUnitStride();
  }

  Value allocateRow(OpBuilder &b) {
    return memref::AllocaOp::create(
        b, loc, MemRefType::get({numExperts}, b.getF32Type()),
        b.getI64IntegerAttr(64));
  }

  void allocateRows(OpBuilder &b) {
    if (needsScores())
      scoresRow = allocateRow(b);
    if (!hasAdjacentElements(op.getLogits()))
      logitsCopy = allocateRow(b);
    if (op.getBias() && !hasAdjacentElements(op.getBias()))
      biasCopy = allocateRow(b);
  }

  /// Row `at` of `buffer`, copied to `copy` where its elements are strided.
  VectorRow loadRow(OpBuilder &b, Value buffer, Value at, Value copy) {
    if (copy) {
      buildLoop(b, loc, buildIndex(b, loc, 0), buildIndex(b, loc, numExperts),
                buildIndex(b, loc, 1), [&](OpBuilder &b, Value i) {
                  SmallVector<Value> place;
                  if (at)
                    place.push_back(at);
                  place.push_back(i);
                  memref::StoreOp::create(
                      b, loc, memref::LoadOp::create(b, loc, buffer, place),
                      copy, i);
                });
      return VectorRow::load(b, loc, copy, numExperts);
    }
    return VectorRow::load(b, loc, buffer, at, numExperts);
  }

  void storeWeights(OpBuilder &b, const VectorRow &weights, Value token) {
    if (hasAdjacentElements(op.getWeightsInit()))
      return weights.store(b, loc, op.getWeightsInit(), token);
    for (int64_t j = 0; j < topK; ++j) {
      Value weight = vector::ExtractOp::create(
          b, loc, weights.getVectors()[j / kSumLanes], j % kSumLanes);
      memref::StoreOp::create(b, loc, weight, op.getWeightsInit(),
                              ValueRange{token, buildIndex(b, loc, j)});
    }
  }

  //===--------------------------------------------------------------------===//
  // Scores and keys
  //===--------------------------------------------------------------------===//

  /// NaN counts as −inf; so does what is no expert.
  VectorRow loadLogits(OpBuilder &b, Value token) {
    return loadRow(b, op.getLogits(), token, logitsCopy)
        .map([&](Value x) { return buildNaNToNegInf(b, loc, x); })
        .pad(b, loc, -kInfinity);
  }

  bool selectsOnScores() { return op.getSelectOn() == SelectOn::Scores; }
  bool isScopeSelected() {
    return op.getSoftmaxScope() == SoftmaxScope::Selected;
  }

  /// False where keys and weights need only logits.
  bool needsScores() {
    if (op.getScore() == Score::None)
      return false;
    return op.getScore() != Score::Softmax ||
           (!isScopeSelected() && (selectsOnScores() || !op.getMix()));
  }

  VectorRow buildScores(OpBuilder &b, const VectorRow &logits) {
    switch (op.getScore()) {
    case Score::Softmax:
      return logits.buildSoftmax(b, loc);
    case Score::Sigmoid:
      return logits.map([&](Value x) { return buildSigmoid(b, loc, x); });
    case Score::SqrtSoftplus:
      return logits.map([&](Value x) { return buildSqrtSoftplus(b, loc, x); });
    case Score::None:
      break;
    }
    llvm_unreachable("has no scores");
  }

  VectorRow addBias(OpBuilder &b, const VectorRow &keys) {
    VectorRow bias = loadRow(b, op.getBias(), /*at=*/Value(), biasCopy);
    SmallVector<Value> sums;
    for (auto [key, value] : llvm::zip(keys.getVectors(), bias.getVectors()))
      sums.push_back(
          buildNaNToNegInf(b, loc, arith::AddFOp::create(b, loc, key, value)));
    return VectorRow(numExperts, sums);
  }

  //===--------------------------------------------------------------------===//
  // Selection and weights
  //===--------------------------------------------------------------------===//

  /// What the weight of (token, expert) is read from.
  Value loadMix(OpBuilder &b, Value token, Value expert) {
    if (op.getMix())
      return memref::LoadOp::create(b, loc, op.getMix(),
                                    ValueRange{token, expert});
    if (scoresRow)
      return memref::LoadOp::create(b, loc, scoresRow, expert);
    return buildNaNToNegInf(b, loc,
                            memref::LoadOp::create(b, loc, op.getLogits(),
                                                   ValueRange{token, expert}));
  }

  /// `row` with `value` as its element `i`.
  VectorRow insert(OpBuilder &b, const VectorRow &row, Value value, Value i) {
    SmallVector<Value> vectors;
    auto lanesType = VectorType::get({kSumLanes}, b.getI32Type());
    Value splat =
        vector::BroadcastOp::create(b, loc, VectorRow::getType(b), value);
    Value place = vector::BroadcastOp::create(
        b, loc, lanesType,
        arith::IndexCastOp::create(b, loc, b.getI32Type(), i));
    for (auto [v, vector] : llvm::enumerate(row.getVectors())) {
      SmallVector<int32_t> lanes;
      for (int32_t lane = 0; lane < kSumLanes; ++lane)
        lanes.push_back(static_cast<int32_t>(v) * kSumLanes + lane);
      Value isPlace = arith::CmpIOp::create(
          b, loc, arith::CmpIPredicate::eq, place,
          arith::ConstantOp::create(
              b, loc, DenseElementsAttr::get(lanesType, ArrayRef(lanes))));
      vectors.push_back(
          arith::SelectOp::create(b, loc, isPlace, splat, vector));
    }
    return VectorRow(row.getSize(), vectors);
  }

  /// Stores the ids of the k best and returns what their weights are made of;
  /// padding is 0.
  VectorRow select(OpBuilder &b, Value token, const VectorRanking &ranking) {
    Carried state(ranking.getNumbers());
    Value none = buildFloat(b, loc, VectorRow::getType(b), 0.0);
    state.append(VectorRow::getNumVectors(topK), none);
    size_t numNumbers = ranking.getNumbers().size();
    Carried last = buildFor(
        b, loc, buildIndex(b, loc, 0), buildIndex(b, loc, topK), state,
        [&](OpBuilder &b, Location, Value j, ValueRange carried) -> Carried {
          VectorRanking left(loc, numExperts, carried.take_front(numNumbers));
          VectorRow chosen(topK,
                           SmallVector<Value>(carried.drop_front(numNumbers)));
          Value best = left.findBest(b);
          Value id = left.getId(b, best);
          memref::StoreOp::create(b, loc, id, op.getIdsInit(),
                                  ValueRange{token, j});
          Value expert =
              arith::IndexCastUIOp::create(b, loc, b.getIndexType(), id);
          left.take(b, best);
          Carried next(left.getNumbers());
          llvm::append_range(
              next,
              insert(b, chosen, loadMix(b, token, expert), j).getVectors());
          return next;
        });
    return VectorRow(topK, ArrayRef(last).drop_front(numNumbers));
  }

  /// Divides `weights` by their sum as the attribute says.
  VectorRow renormalize(OpBuilder &b, const VectorRow &weights) {
    RenormalizeAttr attr = op.getRenormalizeAttr();
    auto constant = [&](double value) {
      return buildFloat(b, loc, VectorRow::getType(b), value);
    };
    auto compare = [&](arith::CmpFPredicate predicate, Value x,
                       Value y) -> Value {
      return arith::CmpFOp::create(b, loc, predicate, x, y);
    };
    Value sum = weights.buildSum(b, loc);
    if (APFloat eps = attr.getEpsilon(); !eps.isZero()) {
      Value epsilon = constant(eps.convertToFloat());
      if (attr.getMode() == EpsMode::Add)
        sum = arith::AddFOp::create(b, loc, sum, epsilon);
      else
        sum = arith::SelectOp::create(
            b, loc, compare(arith::CmpFPredicate::OLT, sum, epsilon), epsilon,
            sum);
    }
    Value isZero = compare(arith::CmpFPredicate::OEQ, sum, constant(0.0));
    return weights.map([&](Value weight) -> Value {
      Value share = arith::DivFOp::create(b, loc, weight, sum);
      return arith::SelectOp::create(b, loc, isZero, constant(0.0), share);
    });
  }

  void buildToken(OpBuilder &b, Value token) {
    VectorRow logits = loadLogits(b, token), keys = logits;
    if (needsScores()) {
      VectorRow scores = buildScores(b, logits);
      scores.store(b, loc, scoresRow, /*at=*/Value());
      if (selectsOnScores())
        keys = scores;
    }
    if (op.getBias())
      keys = addBias(b, keys);
    VectorRanking ranking(b, loc, keys);
    if (op.getGroupsAttr())
      ranking.maskGroups(b, op.getGroupsAttr());
    VectorRow weights = select(b, token, ranking);
    if (isScopeSelected())
      weights =
          weights.map([&](Value x) { return buildNaNToNegInf(b, loc, x); })
              .pad(b, loc, -kInfinity)
              .buildSoftmax(b, loc);
    if (op.getRenormalizeAttr())
      weights = renormalize(b, weights);
    if (!op.getScale().isExactlyValue(1.0)) {
      Value scale = buildFloat(b, loc, VectorRow::getType(b),
                               op.getScale().convertToFloat());
      weights = weights.map([&](Value x) -> Value {
        return arith::MulFOp::create(b, loc, x, scale);
      });
    }
    storeWeights(b, weights, token);
  }
};

struct GateToVectorPass : moe::impl::MoEGateToVectorBase<GateToVectorPass> {
  void runOnOperation() override {
    auto lower = [](OpBuilder &b, GateOp op, int64_t blockTokens) {
      GateLowering(op, blockTokens).lower(b);
    };
    if (failed(
            lowerTokenTasks<GateOp>(getOperation(), findGateObstacle, lower)))
      signalPassFailure();
  }
};

} // namespace
