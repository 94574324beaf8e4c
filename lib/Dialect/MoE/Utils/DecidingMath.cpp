//===- DecidingMath.cpp - The one recipe of functions that decide ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/DecidingMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

namespace {
/// Arithmetic on values of one type, short enough to read as a formula.
struct Formula {
  OpBuilder &builder;
  Location loc;
  Type type;

  Value constant(double value) { return buildFloat(builder, loc, type, value); }
  Value add(Value a, Value b) {
    return arith::AddFOp::create(builder, loc, a, b);
  }
  Value sub(Value a, Value b) {
    return arith::SubFOp::create(builder, loc, a, b);
  }
  Value mul(Value a, Value b) {
    return arith::MulFOp::create(builder, loc, a, b);
  }
  Value div(Value a, Value b) {
    return arith::DivFOp::create(builder, loc, a, b);
  }
  Value fma(Value a, Value b, Value c) {
    return math::FmaOp::create(builder, loc, a, b, c);
  }
  Value negate(Value a) { return arith::NegFOp::create(builder, loc, a); }
  Value less(Value a, Value b) {
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OLT, a, b);
  }
  Value select(Value condition, Value a, Value b) {
    return arith::SelectOp::create(builder, loc, condition, a, b);
  }

  /// Σ coefficients[i]·xⁱ by Horner's rule, one fma a step.
  Value polynomial(Value x, ArrayRef<double> coefficients) {
    Value sum = constant(coefficients.back());
    for (double coefficient : llvm::reverse(coefficients.drop_back()))
      sum = fma(sum, x, constant(coefficient));
    return sum;
  }

  Type intType() {
    Type i32 = builder.getI32Type();
    if (auto shaped = dyn_cast<ShapedType>(type))
      return shaped.clone(i32);
    return i32;
  }
  Value intConstant(int32_t value) {
    TypedAttr attr = builder.getI32IntegerAttr(value);
    if (auto shaped = dyn_cast<ShapedType>(intType()))
      attr = DenseElementsAttr::get(shaped, attr);
    return arith::ConstantOp::create(builder, loc, attr);
  }
  Value bits(Value a) {
    return arith::BitcastOp::create(builder, loc, intType(), a);
  }
  /// 2ⁿ for −126 ≤ n ≤ 127, by writing the exponent field.
  Value powerOfTwo(Value n) {
    Value biased = arith::AddIOp::create(builder, loc, n, intConstant(127));
    Value field = arith::ShLIOp::create(builder, loc, biased, intConstant(23));
    return arith::BitcastOp::create(builder, loc, type, field);
  }
};
} // namespace

Value mlir::moe::buildExp(OpBuilder &builder, Location loc, Value x) {
  Formula f{builder, loc, x.getType()};
  // n = x / ln 2 to nearest: adding 1.5·2²³ leaves n in the low bits.
  Value magic = f.constant(12582912.0);
  Value shifted = f.fma(x, f.constant(1.44269504088896341), magic);
  Value n = f.sub(shifted, magic);
  // r = x − n·ln 2 in two parts; the first has trailing zeros, so n·it is
  // exact.
  Value r = f.fma(n, f.constant(-0.693145751953125), x);
  r = f.fma(n, f.constant(-1.42860682030941723e-6), r);
  // Taylor's series: on |r| ≤ ½ ln 2 the first term left out is below 2⁻²⁷.
  Value e = f.polynomial(r, {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120,
                             1.0 / 720, 1.0 / 5040});
  // 2ⁿ in two factors, so that results below the normal range come out too.
  Value exponent =
      arith::SubIOp::create(builder, loc, f.bits(shifted), f.bits(magic));
  Value half = arith::ShRSIOp::create(builder, loc, exponent, f.intConstant(1));
  Value rest = arith::SubIOp::create(builder, loc, exponent, half);
  e = f.mul(f.mul(e, f.powerOfTwo(half)), f.powerOfTwo(rest));
  // Beyond these bounds n is no exponent any more.
  e = f.select(f.less(x, f.constant(-103.97208404541015625)), f.constant(0.0),
               e);
  return f.select(f.less(f.constant(88.72283935546875), x),
                  f.constant(kInfinity), e);
}

Value mlir::moe::buildLog1pUnit(OpBuilder &builder, Location loc, Value u) {
  Formula f{builder, loc, u.getType()};
  // ln(1 + u) = 2 atanh(s), s = u / (2 + u) ≤ 1/3.
  Value s = f.div(u, f.add(f.constant(2.0), u));
  Value z = f.mul(s, s);
  Value series = f.polynomial(z, {1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9,
                                  1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17});
  return f.mul(f.mul(f.constant(2.0), s), series);
}

Value mlir::moe::buildSigmoid(OpBuilder &builder, Location loc, Value x) {
  Formula f{builder, loc, x.getType()};
  Value one = f.constant(1.0);
  return f.div(one, f.add(one, buildExp(builder, loc, f.negate(x))));
}

Value mlir::moe::buildSqrtSoftplus(OpBuilder &builder, Location loc, Value x) {
  Formula f{builder, loc, x.getType()};
  // ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|): no overflow, u in [0, 1].
  Value zero = f.constant(0.0);
  Value positive = f.less(zero, x);
  Value u = buildExp(builder, loc, f.select(positive, f.negate(x), x));
  Value softplus =
      f.add(f.select(positive, x, zero), buildLog1pUnit(builder, loc, u));
  return math::SqrtOp::create(builder, loc, softplus);
}

Value mlir::moe::buildNaNToNegInf(OpBuilder &builder, Location loc, Value x) {
  Formula f{builder, loc, x.getType()};
  Value isNaN =
      arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::UNO, x, x);
  return f.select(isNaN, f.constant(-kInfinity), x);
}

Value mlir::moe::buildTreeSum(
    OpBuilder &builder, Location loc, Value size,
    function_ref<Value(OpBuilder &, Location, Value)> load) {
  Type f32 = builder.getF32Type();
  Value zeroIndex = buildIndex(builder, loc, 0);
  Value numLanes = buildIndex(builder, loc, kSumLanes);
  Value lanes = tensor::EmptyOp::create(builder, loc, {kSumLanes}, f32);
  lanes = buildFor(
      builder, loc, zeroIndex, numLanes, lanes,
      [&](OpBuilder &b, Location l, Value lane, ValueRange carried) -> Carried {
        Value zero = buildFloat(b, l, f32, 0.0);
        Value sum = buildFor(
            b, l, lane, size, zero,
            [&](OpBuilder &b, Location l, Value i, ValueRange sum) -> Carried {
              return {arith::AddFOp::create(b, l, sum[0], load(b, l, i))};
            },
            numLanes)[0];
        return {tensor::InsertOp::create(b, l, sum, carried[0], lane)};
      })[0];
  for (int64_t distance = kSumLanes / 2; distance > 0; distance /= 2) {
    Value offset = buildIndex(builder, loc, distance);
    lanes = buildFor(
        builder, loc, zeroIndex, offset, lanes,
        [&](OpBuilder &b, Location l, Value lane,
            ValueRange carried) -> Carried {
          Value other = arith::AddIOp::create(b, l, lane, offset);
          Value sum = arith::AddFOp::create(
              b, l, tensor::ExtractOp::create(b, l, carried[0], lane),
              tensor::ExtractOp::create(b, l, carried[0], other));
          return {tensor::InsertOp::create(b, l, sum, carried[0], lane)};
        })[0];
  }
  return tensor::ExtractOp::create(builder, loc, lanes, zeroIndex);
}
