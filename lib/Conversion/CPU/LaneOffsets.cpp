//===- LaneOffsets.cpp - An index in consecutive lanes --------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sizes are static, so the index is computed at each place: no rule of affine
// arithmetic knows `k mod 32 floordiv 2` as well.
//
//===----------------------------------------------------------------------===//

#include "LaneOffsets.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// The value of `expr`, which has no other dimension, where that is `value`.
static int64_t evaluate(AffineExpr expr, int64_t value) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return constant.getValue();
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return value;
  int64_t lhs = evaluate(binary.getLHS(), value);
  int64_t rhs = evaluate(binary.getRHS(), value);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return lhs + rhs;
  case AffineExprKind::Mul:
    return lhs * rhs;
  case AffineExprKind::Mod:
    return (lhs % rhs + rhs) % rhs;
  case AffineExprKind::FloorDiv:
    return llvm::divideFloorSigned(lhs, rhs);
  case AffineExprKind::CeilDiv:
    return llvm::divideCeilSigned(lhs, rhs);
  default:
    llvm_unreachable("not a binary operation");
  }
}

static bool hasOnly(AffineExpr expr, unsigned dim) {
  bool others = false;
  expr.walk([&](AffineExpr leaf) {
    auto other = dyn_cast<AffineDimExpr>(leaf);
    others |=
        isa<AffineSymbolExpr>(leaf) || (other && other.getPosition() != dim);
  });
  return !others;
}

/// `index` less what it is where `dim` is 0, in no more than that dimension;
/// null if that is not so.
static AffineExpr getGrowth(AffineExpr index, unsigned dim) {
  if (hasOnly(index, dim))
    return index;
  if (!index.isFunctionOfDim(dim))
    return getAffineConstantExpr(0, index.getContext());
  // A sum is looked at term by term: those without the dimension cancel.
  auto sum = dyn_cast<AffineBinaryOpExpr>(index);
  if (!sum || sum.getKind() != AffineExprKind::Add)
    return AffineExpr();
  AffineExpr lhs = getGrowth(sum.getLHS(), dim);
  AffineExpr rhs = getGrowth(sum.getRHS(), dim);
  return lhs && rhs ? lhs + rhs : AffineExpr();
}

std::optional<LaneOffsets> mlir::moe::getLaneOffsets(AffineExpr index,
                                                     unsigned dim,
                                                     int64_t lanes,
                                                     int64_t length) {
  AffineExpr growth = getGrowth(index, dim);
  if (!growth)
    return std::nullopt;
  LaneOffsets found;
  for (int64_t start = 0; start < length; start += lanes) {
    int64_t first = evaluate(growth, start);
    int64_t count = std::min(lanes, length - start);
    for (int64_t lane = 0; lane < count; ++lane) {
      int64_t offset = evaluate(growth, start + lane) - first;
      if (start == 0)
        found.offsets.push_back(offset);
      else if (found.offsets[lane] != offset)
        return std::nullopt;
    }
    if (start == 0 && hasOnly(index, dim))
      found.first = first;
    if (found.first && *found.first != first)
      found.first.reset();
  }
  if (found.offsets.empty())
    return std::nullopt;
  found.offsets.resize(lanes, found.offsets.back());
  return found;
}
