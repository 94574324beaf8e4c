//===- TiledIndices.cpp - Index expressions of a tile -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TiledIndices.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "mlir/Interfaces/ValueBoundsOpInterface.h"
#include "moe/Dialect/MoE/Utils/SliceBuilder.h"
#include "llvm/Support/MathExtras.h"

#include <numeric>

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// How an index moves
//===----------------------------------------------------------------------===//

namespace {
/// By how much an index grows when the tile starts at x: x · num / den. A
/// fraction in lowest terms.
struct Shift {
  int64_t num = 0, den = 1;
};
} // namespace

static Shift makeShift(int64_t num, int64_t den) {
  int64_t divisor = std::gcd(num, den);
  return {num / divisor, den / divisor};
}

/// None where the product leaves 64 bits.
static std::optional<int64_t> multiply(int64_t a, int64_t b) {
  int64_t product;
  if (llvm::MulOverflow(a, b, product))
    return std::nullopt;
  return product;
}

static std::optional<Shift> add(Shift a, Shift b) {
  auto den = multiply(a.den, b.den);
  auto left = multiply(a.num, b.den), right = multiply(b.num, a.den);
  int64_t num;
  if (!den || !left || !right || llvm::AddOverflow(*left, *right, num))
    return std::nullopt;
  return makeShift(num, *den);
}

/// The shift of `expr` with dimension `dim`; `period` is made such that the
/// shift is right where it divides the tile's start. None if there is none, or
/// a negative one.
static std::optional<Shift> shiftOf(AffineExpr expr, unsigned dim,
                                    int64_t &period) {
  if (!expr.isFunctionOfDim(dim))
    return Shift();
  if (isa<AffineDimExpr>(expr))
    return Shift{1, 1};
  auto binary = cast<AffineBinaryOpExpr>(expr);
  std::optional<Shift> left = shiftOf(binary.getLHS(), dim, period);
  if (!left)
    return std::nullopt;
  if (binary.getKind() == AffineExprKind::Add) {
    std::optional<Shift> right = shiftOf(binary.getRHS(), dim, period);
    return right ? add(*left, *right) : std::nullopt;
  }
  auto constant = dyn_cast<AffineConstantExpr>(binary.getRHS());
  if (!constant || constant.getValue() < 0)
    return std::nullopt;
  if (left->num == 0)
    return Shift();
  if (binary.getKind() == AffineExprKind::Mul) {
    auto num = multiply(left->num, constant.getValue());
    if (!num)
      return std::nullopt;
    return makeShift(*num, left->den);
  }
  // Both sides of (a + shift) floordiv c = a floordiv c + shift / c, and of
  // (a + shift) mod c = a mod c, need a shift that c divides.
  auto den = multiply(left->den, constant.getValue());
  if (!den)
    return std::nullopt;
  int64_t unit = *den / std::gcd(*den, left->num);
  auto common = multiply(period / std::gcd(period, unit), unit);
  if (!common)
    return std::nullopt;
  period = *common;
  if (binary.getKind() == AffineExprKind::Mod)
    return Shift();
  return makeShift(left->num, *den);
}

/// True if `expr` never falls when a dimension grows.
static bool isMonotone(AffineExpr expr) {
  return !expr.walk([](AffineExpr part) {
                auto binary = dyn_cast<AffineBinaryOpExpr>(part);
                bool falls = false;
                if (binary && binary.getKind() == AffineExprKind::Mod)
                  falls = true;
                if (binary && binary.getKind() == AffineExprKind::Mul) {
                  auto by = dyn_cast<AffineConstantExpr>(binary.getRHS());
                  falls = !by || by.getValue() < 0;
                }
                return falls ? WalkResult::interrupt() : WalkResult::advance();
              })
              .wasInterrupted();
}

/// True if `factor` is known to divide `value`.
static bool isMultipleOf(OpFoldResult value, int64_t factor) {
  if (std::optional<int64_t> constant = getConstantIntValue(value))
    return *constant % factor == 0;
  Value ssa = cast<Value>(value);
  if (auto apply = ssa.getDefiningOp<affine::AffineApplyOp>())
    return apply.getAffineMap().getResult(0).getLargestKnownDivisor() %
               factor ==
           0;
  if (auto loop = scf::getForInductionVarOwner(ssa))
    return isMultipleOf(loop.getLowerBound(), factor) &&
           isMultipleOf(loop.getStep(), factor);
  auto forall = scf::getForallOpThreadIndexOwner(ssa);
  if (!forall)
    return false;
  unsigned i = cast<BlockArgument>(ssa).getArgNumber();
  return isMultipleOf(forall.getMixedLowerBound()[i], factor) &&
         isMultipleOf(forall.getMixedStep()[i], factor);
}

//===----------------------------------------------------------------------===//
// Slices
//===----------------------------------------------------------------------===//

/// `expr` of the operands, folded.
static OpFoldResult apply(OpBuilder &b, Location loc, AffineExpr expr,
                          ArrayRef<OpFoldResult> operands) {
  return affine::makeComposedFoldedAffineApply(
      b, loc, AffineMap::get(operands.size(), 0, expr), operands);
}

static Value buildSlice(OpBuilder &b, Location loc, Value operand,
                        const SlicePlace &place,
                        SmallVectorImpl<Operation *> &slices) {
  SmallVector<int64_t> shape;
  for (OpFoldResult size : place.sizes)
    shape.push_back(getConstantIntValue(size).value_or(ShapedType::kDynamic));
  auto type = cast<RankedTensorType>(operand.getType()).clone(shape);
  Value slice = buildExtractSlice(b, loc, type, operand, place);
  if (auto op = slice.getDefiningOp<tensor::ExtractSliceOp>())
    slices.push_back(op);
  return slice;
}

Value mlir::moe::sliceLeading(OpBuilder &builder, Location loc, Value operand,
                              ArrayRef<std::optional<Tile>> tiles,
                              SmallVectorImpl<Operation *> &slices) {
  SlicePlace place(builder, loc, operand);
  for (auto [dim, tile] : llvm::enumerate(tiles))
    if (tile) {
      place.offsets[dim] = tile->offset;
      place.sizes[dim] = tile->size;
    }
  return buildSlice(builder, loc, operand, place, slices);
}

bool mlir::moe::isWholeDim(const Tile &tile, Value value, int64_t dim) {
  if (!isZeroInteger(tile.offset))
    return false;
  // Within the loops of a tiling, a destination is what they carry.
  while (auto carried = dyn_cast<BlockArgument>(value)) {
    auto loop =
        dyn_cast<LoopLikeOpInterface>(carried.getOwner()->getParentOp());
    OpOperand *init = loop ? loop.getTiedLoopInit(carried) : nullptr;
    if (!init)
      break;
    value = init->get();
  }
  FailureOr<bool> equal = ValueBoundsConstraintSet::areEqual(
      tile.size, ValueBoundsConstraintSet::Variable(value, dim));
  return succeeded(equal) && *equal;
}

namespace {
/// Narrows one dimension of a slice after the other.
class IndexTiler {
public:
  IndexTiler(OpBuilder &b, Location loc, AffineMap map,
             ArrayRef<TiledDim> tiled, SlicePlace &place, std::string &whyNot)
      : b(b), loc(loc), map(map), tiled(tiled), place(place), whyNot(whyNot) {}

  bool isNarrowed = false;

  /// Dimension `dim` of the slice; returns what indexes it.
  FailureOr<AffineExpr> narrow(unsigned dim) {
    AffineExpr expr = map.getResult(dim);
    OpFoldResult offset = b.getIndexAttr(0);
    const TiledDim *mover = nullptr;
    for (const TiledDim &candidate : tiled) {
      std::optional<Shift> shift = findShift(expr, candidate);
      if (!shift)
        return failure();
      if (shift->num == 0)
        continue;
      mover = &candidate;
      AffineExpr start = b.getAffineDimExpr(1);
      offset = apply(b, loc,
                     b.getAffineDimExpr(0) +
                         (start * shift->num).floorDiv(shift->den),
                     {offset, candidate.tile.offset});
    }
    if (!mover)
      return expr;
    isNarrowed = true;
    if (isFunctionOnlyOf(expr, mover->dim) && isMonotone(expr))
      return narrowExactly(dim, expr, *mover, offset);
    place.sizes[dim] =
        apply(b, loc, b.getAffineDimExpr(0) - b.getAffineDimExpr(1),
              {place.sizes[dim], offset});
    place.offsets[dim] = offset;
    return expr;
  }

private:
  OpBuilder &b;
  Location loc;
  AffineMap map;
  ArrayRef<TiledDim> tiled;
  SlicePlace &place;
  std::string &whyNot;

  /// How `expr` moves with the tile of `by`.
  std::optional<Shift> findShift(AffineExpr expr, const TiledDim &by) {
    int64_t period = 1;
    std::optional<Shift> shift = shiftOf(expr, by.dim, period);
    if (!shift)
      whyNot = "an index does not grow with the tile";
    else if (!isMultipleOf(by.tile.offset, period)) {
      whyNot = "an index divides, so tiles must start at multiples of " +
               std::to_string(period);
      return std::nullopt;
    }
    return shift;
  }

  bool isFunctionOnlyOf(AffineExpr expr, unsigned dim) {
    for (unsigned other = 0; other < map.getNumDims(); ++other)
      if (other != dim && expr.isFunctionOfDim(other))
        return false;
    return true;
  }

  /// From the first element that the tile reads to the last.
  AffineExpr narrowExactly(unsigned dim, AffineExpr expr, const TiledDim &mover,
                           OpFoldResult offset) {
    AffineExpr x = b.getAffineDimExpr(0);
    AffineExpr variable = b.getAffineDimExpr(mover.dim);
    AffineExpr first = expr.replace(variable, b.getAffineConstantExpr(0));
    AffineExpr fromFirst =
        simplifyAffineExpr(expr - first, map.getNumDims(), /*numSymbols=*/0);
    place.offsets[dim] = apply(b, loc, x + first, offset);
    place.sizes[dim] = mover.tile.size;
    if (fromFirst != variable) // A tile may be empty.
      place.sizes[dim] = affine::makeComposedFoldedAffineMax(
          b, loc,
          AffineMap::get(1, 0,
                         {fromFirst.replace(variable, x - 1) + 1,
                          b.getAffineConstantExpr(0)},
                         b.getContext()),
          mover.tile.size);
    return fromFirst;
  }
};
} // namespace

FailureOr<IndexedSlice>
mlir::moe::sliceIndexed(OpBuilder &builder, Location loc, Value operand,
                        AffineMap map, ArrayRef<TiledDim> tiled,
                        SmallVectorImpl<Operation *> &slices,
                        std::string &whyNot) {
  SlicePlace place(builder, loc, operand);
  IndexTiler tiler(builder, loc, map, tiled, place, whyNot);
  SmallVector<AffineExpr> exprs;
  for (unsigned dim = 0; dim < map.getNumResults(); ++dim) {
    FailureOr<AffineExpr> expr = tiler.narrow(dim);
    if (failed(expr))
      return failure();
    exprs.push_back(*expr);
  }
  if (!tiler.isNarrowed)
    return IndexedSlice{operand, map};
  return IndexedSlice{
      buildSlice(builder, loc, operand, place, slices),
      AffineMap::get(map.getNumDims(), 0, exprs, builder.getContext())};
}
