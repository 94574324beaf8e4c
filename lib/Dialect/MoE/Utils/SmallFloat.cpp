//===- SmallFloat.cpp - Floats of 8 and 4 bits as f32 ---------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The bits of such a number, moved to where a wider format has its exponent and
// its mantissa, are that number times a power of two. f16 has subnormals of its
// own that machines extend without a penalty; to f32, subnormals are made with
// the implicit one that they lack, which is subtracted again.
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/SmallFloat.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

bool mlir::moe::isSmallFloat(Type type) {
  return isa<Float8E4M3FNType, Float8E5M2Type, Float4E2M1FNType,
             Float8E8M0FNUType>(getElementTypeOrSelf(type));
}

namespace {
/// How a format spends its bits: a sign, an exponent, `mantissa` bits.
struct Format {
  unsigned bits, mantissa;
  int bias;
  /// The least magnitude that is no number; beyond all where there is none.
  unsigned leastSpecial;

  unsigned getMagnitudes() const { return (1u << (bits - 1)) - 1; }
};

class Extension {
public:
  Extension(OpBuilder &b, Location loc, Value value)
      : b(b), loc(loc), value(value) {}

  Value build(bool hasHalf) {
    Type element = getElementTypeOrSelf(value.getType());
    if (isa<Float8E8M0FNUType>(element))
      return buildPowerOfTwo();
    Format format = {8, 3, 7, 0x7f};
    if (isa<Float8E5M2Type>(element))
      format = {8, 2, 15, 0x7c};
    else if (isa<Float4E2M1FNType>(element))
      format = {4, 1, 1, 0x8};
    return hasHalf ? extendThroughHalf(format) : extend(format);
  }

private:
  OpBuilder &b;
  Location loc;
  Value value;

  /// `type`, or a vector of as many as the value has.
  Type like(Type type) {
    auto vector = dyn_cast<VectorType>(value.getType());
    return vector ? Type(vector.clone(type)) : type;
  }
  Value constant(Type type, uint64_t bits) {
    APInt number(type.getIntOrFloatBitWidth(), bits);
    TypedAttr attr = b.getIntegerAttr(type, number);
    if (auto vector = dyn_cast<VectorType>(value.getType()))
      attr = DenseElementsAttr::get(vector.clone(type), number);
    return arith::ConstantOp::create(b, loc, attr);
  }
  /// The value's bits, extended to `type`.
  template <typename ExtOp>
  Value bitsAs(Type type) {
    unsigned width =
        getElementTypeOrSelf(value.getType()).getIntOrFloatBitWidth();
    Value bits =
        arith::BitcastOp::create(b, loc, like(b.getIntegerType(width)), value);
    return ExtOp::create(b, loc, like(type), bits);
  }
  template <typename Op>
  Value apply(Value x, uint64_t y) {
    return Op::create(b, loc, x,
                      constant(getElementTypeOrSelf(x.getType()), y));
  }
  Value compare(arith::CmpIPredicate predicate, Value x, uint64_t y) {
    return arith::CmpIOp::create(
        b, loc, predicate, x, constant(getElementTypeOrSelf(x.getType()), y));
  }
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, loc, condition, x, y);
  }
  Value asFloat(Type type, Value bits) {
    return arith::BitcastOp::create(b, loc, like(type), bits);
  }

  /// e8m0: the exponent of f32; 0 is a subnormal, 255 no number. No compares:
  /// it is the scale of a block, one scalar.
  Value buildPowerOfTwo() {
    constexpr uint64_t kSubnormal = 0x00400000, kQuiet = 22;
    Type i32 = b.getI32Type();
    Value code = bitsAs<arith::ExtUIOp>(i32);
    Value bits =
        apply<arith::MaxUIOp>(apply<arith::ShLIOp>(code, 23), kSubnormal);
    Value isNaN = apply<arith::ShRUIOp>(apply<arith::AddIOp>(code, 1), 8);
    bits =
        arith::OrIOp::create(b, loc, bits, apply<arith::ShLIOp>(isNaN, kQuiet));
    return asFloat(b.getF32Type(), bits);
  }

  Value extendThroughHalf(const Format &format) {
    constexpr unsigned kMantissa = 10, kBias = 15;
    Type i16 = b.getI16Type();
    unsigned shift = kMantissa - format.mantissa;
    // The sign's copies are above it; one of them is in place.
    Value bits = apply<arith::ShLIOp>(bitsAs<arith::ExtSIOp>(i16), shift);
    uint64_t magnitudes = uint64_t(format.getMagnitudes()) << shift;
    bits = apply<arith::AndIOp>(bits, 0x8000 | magnitudes);
    // What has no number in a format with infinity has none in f16.
    if (format.leastSpecial == format.getMagnitudes()) {
      Value magnitude = apply<arith::AndIOp>(bits, 0x7fff);
      bits = select(compare(arith::CmpIPredicate::eq, magnitude, magnitudes),
                    constant(i16, 0x7e00), bits);
    }
    Value extended = arith::ExtFOp::create(b, loc, like(b.getF32Type()),
                                           asFloat(b.getF16Type(), bits));
    if (format.bias == kBias)
      return extended;
    Value power = buildFloat(b, loc, extended.getType(),
                             std::ldexp(1.0, int(kBias) - format.bias));
    return arith::MulFOp::create(b, loc, extended, power);
  }

  Value extend(const Format &format) {
    constexpr unsigned kMantissa = 23;
    constexpr int kBias = 127;
    Type i32 = b.getI32Type(), f32 = b.getF32Type();
    unsigned shift = kMantissa - format.mantissa;
    Value code = bitsAs<arith::ExtUIOp>(i32);
    Value magnitude = apply<arith::AndIOp>(code, format.getMagnitudes());
    uint64_t rebias = uint64_t(kBias - format.bias) << kMantissa;
    uint64_t one = uint64_t(1) << kMantissa;
    Value bits =
        apply<arith::AddIOp>(apply<arith::ShLIOp>(magnitude, shift), rebias);
    Value isSubnormal =
        compare(arith::CmpIPredicate::ult, magnitude, 1u << format.mantissa);
    Value withOne = asFloat(f32, apply<arith::AddIOp>(bits, one));
    Value implicit =
        buildFloat(b, loc, withOne.getType(), std::ldexp(1.0, 1 - format.bias));
    Value subnormal = arith::SubFOp::create(b, loc, withOne, implicit);
    bits = select(isSubnormal,
                  arith::BitcastOp::create(b, loc, like(i32), subnormal), bits);
    bits = makeSpecial(format, magnitude, bits);
    Value sign = apply<arith::AndIOp>(
        apply<arith::ShLIOp>(code, 32 - format.bits), 0x80000000);
    return asFloat(f32, arith::OrIOp::create(b, loc, bits, sign));
  }

  /// The largest exponent of f32 for what is no number: e5m2's infinity and
  /// NaN, e4m3fn's one NaN.
  Value makeSpecial(const Format &format, Value magnitude, Value bits) {
    if (format.leastSpecial > format.getMagnitudes())
      return bits;
    Value isSpecial =
        compare(arith::CmpIPredicate::uge, magnitude, format.leastSpecial);
    return select(isSpecial, apply<arith::OrIOp>(bits, 0x7f800000), bits);
  }
};
} // namespace

Value mlir::moe::buildSmallFloatExtension(OpBuilder &builder, Location loc,
                                          Value value, bool hasHalf) {
  return Extension(builder, loc, value).build(hasHalf);
}
