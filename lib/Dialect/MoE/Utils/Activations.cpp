//===- Activations.cpp - Ready activations for LayerBuilder -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/MoE/Utils/LayerBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
/// f32 arithmetic in the words of the formula.
struct Formula {
  OpBuilder &builder;
  Location loc;

  Value constant(double value) {
    return arith::ConstantOp::create(
        builder, loc, builder.getF32FloatAttr(static_cast<float>(value)));
  }
  Value add(Value a, Value b) {
    return arith::AddFOp::create(builder, loc, a, b);
  }
  Value mul(Value a, Value b) {
    return arith::MulFOp::create(builder, loc, a, b);
  }
  Value relu(Value x) {
    return arith::MaximumFOp::create(builder, loc, x, constant(0.0));
  }
  Value halfTimesOnePlus(Value x, Value y) {
    return mul(mul(constant(0.5), x), add(constant(1.0), y));
  }
};
} // namespace

/// f(gate) in f32, rounded to the type of `gate`, times `up` if there is one.
static Value applyAndMultiply(OpBuilder &builder, Location loc, Value gate,
                              Value up,
                              function_ref<Value(Formula &, Value)> f) {
  Formula formula{builder, loc};
  Type type = gate.getType(), f32 = builder.getF32Type();
  bool narrow = type != f32;
  Value wide = narrow
                   ? arith::ExtFOp::create(builder, loc, f32, gate).getResult()
                   : gate;
  Value result = f(formula, wide);
  if (narrow)
    result = arith::TruncFOp::create(builder, loc, type, result);
  return up ? formula.mul(result, up) : result;
}

Value mlir::moe::buildSilu(OpBuilder &builder, Location loc, Value gate,
                           Value up) {
  return applyAndMultiply(
      builder, loc, gate, up, [&](Formula &f, Value x) -> Value {
        Value minus = arith::NegFOp::create(builder, loc, x);
        Value exp = math::ExpOp::create(builder, loc, minus);
        Value denominator = f.add(f.constant(1.0), exp);
        return arith::DivFOp::create(builder, loc, x, denominator);
      });
}

Value mlir::moe::buildGelu(OpBuilder &builder, Location loc, Value gate,
                           Value up) {
  return applyAndMultiply(
      builder, loc, gate, up, [&](Formula &f, Value x) -> Value {
        Value scaled = f.mul(x, f.constant(0.70710678118654752440));
        return f.halfTimesOnePlus(x, math::ErfOp::create(builder, loc, scaled));
      });
}

Value mlir::moe::buildGeluTanh(OpBuilder &builder, Location loc, Value gate,
                               Value up) {
  return applyAndMultiply(
      builder, loc, gate, up, [&](Formula &f, Value x) -> Value {
        Value cube = f.mul(f.mul(x, x), x);
        Value sum = f.add(x, f.mul(f.constant(0.044715), cube));
        Value scaled = f.mul(f.constant(0.79788456080286535588), sum);
        return f.halfTimesOnePlus(x,
                                  math::TanhOp::create(builder, loc, scaled));
      });
}

Value mlir::moe::buildRelu(OpBuilder &builder, Location loc, Value gate,
                           Value up) {
  return applyAndMultiply(builder, loc, gate, up,
                          [](Formula &f, Value x) { return f.relu(x); });
}

Value mlir::moe::buildRelu2(OpBuilder &builder, Location loc, Value gate,
                            Value up) {
  return applyAndMultiply(builder, loc, gate, up, [](Formula &f, Value x) {
    Value positive = f.relu(x);
    return f.mul(positive, positive);
  });
}
