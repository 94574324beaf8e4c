//===- VectorRanking.cpp - The best of a row, in registers ----------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "VectorRanking.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/MoE/Utils/DecidingMath.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

/// Half a vector of keys.
static constexpr int64_t kLanes = kSumLanes / 2;
static constexpr int64_t kTaken = std::numeric_limits<int64_t>::min();

static VectorType numbersType(Builder &b) {
  return VectorType::get({kLanes}, b.getI64Type());
}

static Value buildTaken(OpBuilder &b, Location loc) {
  return arith::ConstantOp::create(
      b, loc,
      DenseElementsAttr::get(numbersType(b), b.getI64IntegerAttr(kTaken)));
}

/// The constant function(i) of the elements that begin with `first`.
static Value buildTable(OpBuilder &b, Location loc, int64_t first,
                        function_ref<int64_t(int64_t)> function) {
  SmallVector<int64_t> values;
  for (int64_t lane = 0; lane < kLanes; ++lane)
    values.push_back(function(first + lane));
  return arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(numbersType(b), ArrayRef(values)));
}

/// Which of the lanes from `first` on are in [begin, end); null for all.
static Value buildRangeMask(OpBuilder &b, Location loc, int64_t first,
                            int64_t begin, int64_t end) {
  if (begin <= first && first + kLanes <= end)
    return Value();
  SmallVector<bool> lanes;
  for (int64_t i = first; i < first + kLanes; ++i)
    lanes.push_back(begin <= i && i < end);
  return arith::ConstantOp::create(
      b, loc,
      DenseElementsAttr::get(VectorType::get({kLanes}, b.getI1Type()),
                             ArrayRef(lanes)));
}

/// The lower half of the number of element `id`.
static int64_t lowerHalf(int64_t id) {
  return static_cast<int64_t>(~static_cast<uint32_t>(id));
}

/// Exchanges the bits of floats and integers of the same order: those of
/// negative numbers count down. Its own inverse.
static Value flipNegatives(OpBuilder &b, Location loc, Value bits) {
  Type type = bits.getType();
  auto constant = [&](int32_t value) -> Value {
    TypedAttr attr = b.getI32IntegerAttr(value);
    if (auto shaped = dyn_cast<ShapedType>(type))
      attr = DenseElementsAttr::get(shaped, attr);
    return arith::ConstantOp::create(b, loc, attr);
  };
  Value sign = arith::ShRSIOp::create(b, loc, bits, constant(31));
  Value flipped = arith::AndIOp::create(
      b, loc, sign, constant(std::numeric_limits<int32_t>::max()));
  return arith::XOrIOp::create(b, loc, bits, flipped);
}

VectorRanking::VectorRanking(OpBuilder &b, Location loc, const VectorRow &keys)
    : loc(loc), size(keys.getSize()) {
  auto keysType = VectorType::get({kSumLanes}, b.getI32Type());
  Value shift = buildTable(b, loc, 0, [](int64_t) { return 32; });
  for (auto [v, key] : llvm::enumerate(keys.getVectors())) {
    // −0 ties with 0, and −0 + 0 is 0.
    Value sum = arith::AddFOp::create(b, loc, key,
                                      buildFloat(b, loc, key.getType(), 0.0));
    Value ordered = flipNegatives(
        b, loc, arith::BitcastOp::create(b, loc, keysType, sum));
    for (int64_t half : {0, 1}) {
      auto first = static_cast<int64_t>(v) * kSumLanes + half * kLanes;
      if (first >= size)
        break;
      Value upper = vector::ExtractStridedSliceOp::create(
          b, loc, ordered, half * kLanes, kLanes, 1);
      upper = arith::ShLIOp::create(
          b, loc, arith::ExtSIOp::create(b, loc, numbersType(b), upper), shift);
      Value number = arith::OrIOp::create(b, loc, upper,
                                          buildTable(b, loc, first, lowerHalf));
      if (Value mask = buildRangeMask(b, loc, first, 0, size))
        number = arith::SelectOp::create(b, loc, mask, number,
                                         buildTaken(b, loc));
      numbers.push_back(number);
    }
  }
}

Value VectorRanking::findBest(OpBuilder &b) const {
  auto larger = [&](Value x, Value y) -> Value {
    return arith::MaxSIOp::create(b, loc, x, y);
  };
  return foldLanes(b, loc, foldTree(numbers, larger), larger);
}

void VectorRanking::take(OpBuilder &b, Value best) {
  for (Value &number : numbers) {
    Value isBest = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                         number, best);
    number =
        arith::SelectOp::create(b, loc, isBest, buildTaken(b, loc), number);
  }
}

Value VectorRanking::getId(OpBuilder &b, Value best) const {
  Value number = vector::ExtractOp::create(b, loc, best, int64_t(0));
  Value inverted = arith::TruncIOp::create(b, loc, b.getI32Type(), number);
  return arith::XOrIOp::create(b, loc, inverted, buildI32(b, loc, -1));
}

VectorRanking VectorRanking::slice(OpBuilder &b, int64_t begin,
                                   int64_t end) const {
  SmallVector<Value> inside;
  for (int64_t v = begin / kLanes; v * kLanes < end; ++v) {
    Value number = numbers[v];
    if (Value mask = buildRangeMask(b, loc, v * kLanes, begin, end))
      number =
          arith::SelectOp::create(b, loc, mask, number, buildTaken(b, loc));
    inside.push_back(number);
  }
  return VectorRanking(loc, end - begin, inside);
}

/// The key (f32) of a number in every lane.
static Value getKey(OpBuilder &b, Location loc, Value best) {
  Value number = vector::ExtractOp::create(b, loc, best, int64_t(0));
  Value upper = arith::ShRSIOp::create(
      b, loc, number,
      arith::ConstantIntOp::create(b, loc, 32, /*width=*/64));
  Value ordered = arith::TruncIOp::create(b, loc, b.getI32Type(), upper);
  return arith::BitcastOp::create(b, loc, b.getF32Type(),
                                  flipNegatives(b, loc, ordered));
}

Value VectorRanking::buildGroupScore(OpBuilder &b, int64_t begin, int64_t end,
                                     GroupScore score) const {
  VectorRanking group = slice(b, begin, end);
  Value first = group.findBest(b);
  if (score == GroupScore::Max)
    return getKey(b, loc, first);
  group.take(b, first);
  Value second = group.findBest(b);
  return buildNaNToNegInf(b, loc,
                          arith::AddFOp::create(b, loc, getKey(b, loc, first),
                                                getKey(b, loc, second)));
}

void VectorRanking::maskGroups(OpBuilder &b, GroupsAttr groups) {
  int64_t count = groups.getCount(), groupSize = size / count;
  SmallVector<Value> scores(
      VectorRow::getNumVectors(count),
      buildFloat(b, loc, VectorRow::getType(b), 0.0));
  for (int64_t group = 0; group < count; ++group) {
    Value score = buildGroupScore(b, group * groupSize,
                                  (group + 1) * groupSize, groups.getScore());
    Value &vector = scores[group / kSumLanes];
    vector =
        vector::InsertOp::create(b, loc, score, vector, group % kSumLanes);
  }
  VectorRanking ranking(b, loc, VectorRow(count, scores));
  SmallVector<Value> isKept(numbers.size());
  for (int64_t i = 0; i < groups.getKeep(); ++i) {
    Value best = ranking.findBest(b);
    ranking.take(b, best);
    // Groups' numbers are compared as they are: by their lower halves.
    Value lower = arith::AndIOp::create(
        b, loc, best, buildTable(b, loc, 0, [](int64_t) {
          return static_cast<int64_t>(std::numeric_limits<uint32_t>::max());
        }));
    for (auto [v, kept] : llvm::enumerate(isKept)) {
      Value groupOf = buildTable(
          b, loc, static_cast<int64_t>(v) * kLanes,
          [&](int64_t id) { return lowerHalf(id / groupSize); });
      Value isBest = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                           groupOf, lower);
      kept = kept ? arith::OrIOp::create(b, loc, kept, isBest).getResult()
                  : isBest;
    }
  }
  // The order of 0 is 0, that of −inf the complement of +inf's bits.
  int64_t masked = groups.getMask() == GroupMask::Zero
                       ? 0
                       : static_cast<int64_t>(0x807FFFFF00000000U);
  for (auto [v, number] : llvm::enumerate(numbers)) {
    Value other = buildTable(b, loc, static_cast<int64_t>(v) * kLanes,
                             [&](int64_t id) -> int64_t {
                               return id < size ? masked | lowerHalf(id)
                                                : kTaken;
                             });
    number = arith::SelectOp::create(b, loc, isKept[v], number, other);
  }
}
