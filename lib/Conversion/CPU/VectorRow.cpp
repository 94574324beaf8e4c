//===- VectorRow.cpp - A row of numbers in vector registers ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "VectorRow.h"

#include "VectorAccess.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/MoE/Utils/DecidingMath.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Value mlir::moe::foldLanes(OpBuilder &b, Location loc, Value vector,
                           function_ref<Value(Value, Value)> combine) {
  int64_t lanes = cast<VectorType>(vector.getType()).getNumElements();
  for (int64_t distance = lanes / 2; distance > 0; distance /= 2) {
    SmallVector<int64_t> partners;
    for (int64_t lane = 0; lane < lanes; ++lane)
      partners.push_back(lane ^ distance);
    Value other = vector::ShuffleOp::create(b, loc, vector, vector, partners);
    vector = combine(vector, other);
  }
  return vector;
}

Value mlir::moe::foldTree(ArrayRef<Value> values,
                          function_ref<Value(Value, Value)> combine) {
  SmallVector<Value> level(values);
  while (level.size() > 1) {
    SmallVector<Value> next;
    for (size_t i = 0; i + 1 < level.size(); i += 2)
      next.push_back(combine(level[i], level[i + 1]));
    if (level.size() % 2)
      next.push_back(level.back());
    level = std::move(next);
  }
  return level[0];
}

int64_t VectorRow::getNumVectors(int64_t size) {
  return llvm::divideCeil(size, kSumLanes);
}

VectorType VectorRow::getType(Builder &builder) {
  return VectorType::get({kSumLanes}, builder.getF32Type());
}

/// Which lanes of the vector that begins with element `first` are elements;
/// null for all.
static Value buildMask(OpBuilder &b, Location loc, int64_t size,
                       int64_t first) {
  return buildPrefixMask(b, loc, kSumLanes, std::min(kSumLanes, size - first));
}

VectorRow VectorRow::load(OpBuilder &b, Location loc, Value buffer, Value at,
                          int64_t size) {
  SmallVector<Value> vectors;
  for (int64_t first = 0; first < size; first += kSumLanes) {
    SmallVector<Value> place;
    if (at)
      place.push_back(at);
    place.push_back(buildIndex(b, loc, first));
    vectors.push_back(loadVector(b, loc, buffer, place, kSumLanes,
                                 buildMask(b, loc, size, first)));
  }
  return VectorRow(size, vectors);
}

VectorRow VectorRow::load(OpBuilder &b, Location loc, Value buffer,
                          int64_t size) {
  return load(b, loc, buffer, /*at=*/Value(), size);
}

VectorRow VectorRow::map(function_ref<Value(Value)> function) const {
  SmallVector<Value> mapped;
  for (Value vector : vectors)
    mapped.push_back(function(vector));
  return VectorRow(size, mapped);
}

VectorRow VectorRow::pad(OpBuilder &b, Location loc, double padding) const {
  SmallVector<Value> padded(vectors);
  if (Value mask =
          buildMask(b, loc, size, (getNumVectors(size) - 1) * kSumLanes))
    padded.back() = arith::SelectOp::create(
        b, loc, mask, padded.back(),
        buildFloat(b, loc, getType(b), padding));
  return VectorRow(size, padded);
}

void VectorRow::store(OpBuilder &b, Location loc, Value buffer,
                      Value at) const {
  for (auto [i, vector] : llvm::enumerate(vectors)) {
    auto first = static_cast<int64_t>(i) * kSumLanes;
    SmallVector<Value> place;
    if (at)
      place.push_back(at);
    place.push_back(buildIndex(b, loc, first));
    storeVector(b, loc, vector, buffer, place, buildMask(b, loc, size, first));
  }
}

Value VectorRow::buildSum(OpBuilder &b, Location loc) const {
  auto add = [&](Value x, Value y) -> Value {
    return arith::AddFOp::create(b, loc, x, y);
  };
  // From +0 on, which a lane that holds −0 alone becomes.
  Value sum = buildFloat(b, loc, getType(b), 0.0);
  for (Value vector : vectors)
    sum = add(sum, vector);
  return foldLanes(b, loc, sum, add);
}

VectorRow VectorRow::buildSoftmax(OpBuilder &b, Location loc) const {
  using Predicate = arith::CmpFPredicate;
  auto constant = [&](double value) {
    return buildFloat(b, loc, getType(b), value);
  };
  auto compare = [&](Predicate predicate, Value x, Value y) -> Value {
    return arith::CmpFOp::create(b, loc, predicate, x, y);
  };
  auto select = [&](Value condition, Value x, Value y) -> Value {
    return arith::SelectOp::create(b, loc, condition, x, y);
  };
  auto larger = [&](Value x, Value y) {
    return select(compare(Predicate::OGT, x, y), x, y);
  };
  Value maximum = foldLanes(b, loc, foldTree(vectors, larger), larger);
  // Shifting by an infinite maximum would give NaN.
  Value posInf = constant(kInfinity);
  Value isPosInf = compare(Predicate::OEQ, maximum, posInf);
  Value isNegInf = compare(Predicate::OEQ, maximum, constant(-kInfinity));
  VectorRow powers = map([&](Value x) {
    Value indicator = select(compare(Predicate::OEQ, x, posInf), constant(1.0),
                             constant(0.0));
    Value difference = arith::SubFOp::create(b, loc, x, maximum);
    return select(isPosInf, indicator, buildExp(b, loc, difference));
  });
  Value sum = powers.buildSum(b, loc);
  return powers.map([&](Value power) {
    Value share = arith::DivFOp::create(b, loc, power, sum);
    return select(isNegInf, constant(0.0), share);
  });
}
