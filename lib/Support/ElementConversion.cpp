//===- ElementConversion.cpp - Conversions of arrays ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every pair of floats goes through f32, every pair of integers through i64, a
// block at a time: both pivots stay in the L1 cache and the loops over a block
// vectorize. The one pair where f32 would round twice, f64 to something narrow,
// rounds to f32 "to odd" first, which keeps the second rounding right.
//
//===----------------------------------------------------------------------===//

#include "moe/Support/ElementType.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/SwapByteOrder.h"
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>

using namespace llvm;
using namespace mlir::moe;

static_assert(sys::IsLittleEndianHost,
              "tensor files are little-endian and are used as they are");

static constexpr uint64_t kBlock = 1024;

//===----------------------------------------------------------------------===//
// f16
//===----------------------------------------------------------------------===//

float mlir::moe::f16ToF32(uint16_t bits) {
  // f32's exponent bias is larger than f16's by 112.
  constexpr uint32_t rebias = 112u << 23;
  uint32_t sign = (bits & 0x8000u) << 16;
  uint32_t exponent = bits & 0x7c00u;
  uint32_t mantissa = bits & 0x03ffu;
  uint32_t normal = ((bits & 0x7fffu) << 13) + rebias;
  uint32_t special = normal + rebias; // Exponent 31 becomes 255.
  special |= mantissa ? 0x00400000u : 0;
  uint32_t subnormal =
      llvm::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
  uint32_t magnitude = exponent == 0        ? subnormal
                       : exponent == 0x7c00 ? special
                                            : normal;
  return llvm::bit_cast<float>(sign | magnitude);
}

uint16_t mlir::moe::f32ToF16(float value) {
  uint32_t bits = llvm::bit_cast<uint32_t>(value);
  uint32_t sign = (bits >> 16) & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  // The carry out of the mantissa is what raises the exponent, up to infinity.
  uint32_t normal =
      (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // An ulp of 0.5f is the smallest f16, so this addition rounds to f16.
  float shifted = llvm::bit_cast<float>(magnitude) + 0.5f;
  uint32_t subnormal =
      llvm::bit_cast<uint32_t>(shifted) - llvm::bit_cast<uint32_t>(0.5f);
  uint32_t quietNaN = 0x7e00 | ((magnitude >> 13) & 0x03ff);
  uint32_t result = magnitude > 0x7f800000    ? quietNaN
                    : magnitude >= 0x47800000 ? 0x7c00 // 2^16 and beyond.
                    : magnitude < 0x38800000  ? subnormal
                                              : normal;
  return static_cast<uint16_t>(sign | result);
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

static const fltSemantics &getSemantics(ElementType type) {
  switch (type) {
  case ElementType::F64:
    return APFloat::IEEEdouble();
  case ElementType::F32:
    return APFloat::IEEEsingle();
  case ElementType::F16:
    return APFloat::IEEEhalf();
  case ElementType::BF16:
    return APFloat::BFloat();
  case ElementType::F8E4M3FN:
    return APFloat::Float8E4M3FN();
  case ElementType::F8E5M2:
    return APFloat::Float8E5M2();
  default:
    llvm_unreachable("not a float");
  }
}

/// The f32 next to `value` in direction of zero, with its last bit set unless
/// it is equal to `value`: rounding that to 22 bits or fewer gives what
/// rounding `value` itself would give.
static float roundToOdd(double value) {
  float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || value != value)
    return nearest;
  uint32_t bits = llvm::bit_cast<uint32_t>(nearest);
  bool away = std::abs(static_cast<double>(nearest)) > std::abs(value);
  return llvm::bit_cast<float>((bits - (away ? 1 : 0)) | 1);
}

static std::array<float, 256> makeF8Table(const fltSemantics &semantics) {
  std::array<float, 256> table;
  for (unsigned bits = 0; bits < 256; ++bits) {
    APFloat value(semantics, APInt(8, bits));
    bool losesInfo;
    value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven,
                  &losesInfo);
    table[bits] = value.convertToFloat();
  }
  return table;
}

static const std::array<float, 256> &getF8Table(ElementType type) {
  static const std::array<float, 256> e4m3 =
      makeF8Table(APFloat::Float8E4M3FN());
  static const std::array<float, 256> e5m2 = makeF8Table(APFloat::Float8E5M2());
  return type == ElementType::F8E4M3FN ? e4m3 : e5m2;
}

/// One value at a time: nothing stores f8 in bulk yet.
static uint8_t f32ToF8(float value, ElementType type) {
  APFloat number(value);
  bool losesInfo;
  number.convert(getSemantics(type), APFloat::rmNearestTiesToEven, &losesInfo);
  return static_cast<uint8_t>(number.bitcastToAPInt().getZExtValue());
}

/// Applies `convert` to `count` elements of any alignment, at most a block.
template <typename From, typename To, typename Fn>
static void transformBlock(const void *source, void *destination,
                           uint64_t count, Fn convert) {
  From input[kBlock];
  To output[kBlock];
  std::memcpy(input, source, count * sizeof(From));
  for (uint64_t i = 0; i < count; ++i)
    output[i] = convert(input[i]);
  std::memcpy(destination, output, count * sizeof(To));
}

/// Reads a block as f32. Only f64 loses something, for a target that is
/// narrower than f32.
static void decodeFloats(ElementType from, const uint8_t *source, float *values,
                         uint64_t count) {
  switch (from) {
  case ElementType::F64:
    return transformBlock<double, float>(source, values, count, roundToOdd);
  case ElementType::F32:
    std::memcpy(values, source, count * sizeof(float));
    return;
  case ElementType::F16:
    return transformBlock<uint16_t, float>(source, values, count, f16ToF32);
  case ElementType::BF16:
    return transformBlock<uint16_t, float>(source, values, count, bf16ToF32);
  default: {
    const std::array<float, 256> &table = getF8Table(from);
    return transformBlock<uint8_t, float>(
        source, values, count, [&](uint8_t bits) { return table[bits]; });
  }
  }
}

static void encodeFloats(ElementType to, const float *values,
                         uint8_t *destination, uint64_t count) {
  switch (to) {
  case ElementType::F64:
    return transformBlock<float, double>(
        values, destination, count,
        [](float value) -> double { return value; });
  case ElementType::F32:
    std::memcpy(destination, values, count * sizeof(float));
    return;
  case ElementType::F16:
    return transformBlock<float, uint16_t>(values, destination, count,
                                           f32ToF16);
  case ElementType::BF16:
    return transformBlock<float, uint16_t>(values, destination, count,
                                           f32ToBF16);
  default:
    return transformBlock<float, uint8_t>(
        values, destination, count,
        [&](float value) { return f32ToF8(value, to); });
  }
}

static void convertFloats(ElementType from, const uint8_t *source,
                          ElementType to, uint8_t *destination,
                          uint64_t count) {
  if (from == ElementType::F64 && to == ElementType::F32)
    return transformBlock<double, float>(
        source, destination, count,
        [](double value) { return static_cast<float>(value); });
  float values[kBlock];
  decodeFloats(from, source, values, count);
  encodeFloats(to, values, destination, count);
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

/// Calls `fn` with a value of the C++ type for the integer `type`.
template <typename Fn>
static auto withIntegerType(ElementType type, Fn fn) {
  switch (type) {
  case ElementType::I64:
    return fn(int64_t());
  case ElementType::I32:
    return fn(int32_t());
  case ElementType::I16:
    return fn(int16_t());
  case ElementType::I8:
    return fn(int8_t());
  case ElementType::U64:
    return fn(uint64_t());
  case ElementType::U32:
    return fn(uint32_t());
  case ElementType::U16:
    return fn(uint16_t());
  case ElementType::U8:
    return fn(uint8_t());
  default:
    llvm_unreachable("not an integer");
  }
}

/// The index of the first of a block's values that `To` cannot hold, or
/// `count`. Values are given as i64; a u64 beyond that is negative there.
template <typename From, typename To>
static uint64_t findMisfit(const int64_t *values, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    bool negative = values[i] < 0;
    bool tooLarge = std::is_same_v<From, uint64_t> && negative;
    bool lostSign = std::is_same_v<To, uint64_t> && negative;
    bool cut = static_cast<int64_t>(static_cast<To>(values[i])) != values[i];
    if (tooLarge || lostSign || cut)
      return i;
  }
  return count;
}

/// Converts a block; an error names the first value that does not fit.
static Error convertIntegers(ElementType from, const uint8_t *source,
                             ElementType to, uint8_t *destination,
                             uint64_t count, uint64_t firstIndex) {
  return withIntegerType(from, [&](auto fromZero) {
    using From = decltype(fromZero);
    int64_t values[kBlock];
    transformBlock<From, int64_t>(source, values, count, [](From value) {
      return static_cast<int64_t>(value);
    });
    return withIntegerType(to, [&](auto toZero) -> Error {
      using To = decltype(toZero);
      uint64_t misfit = findMisfit<From, To>(values, count);
      if (misfit != count)
        return createStringError(
            "element " + Twine(firstIndex + misfit) + " is " +
            std::to_string(static_cast<From>(values[misfit])) +
            ", outside of " + getName(to) + ", which holds " +
            std::to_string(std::numeric_limits<To>::min()) + " to " +
            std::to_string(std::numeric_limits<To>::max()));
      transformBlock<int64_t, To>(
          values, destination, count,
          [](int64_t value) { return static_cast<To>(value); });
      return Error::success();
    });
  });
}

//===----------------------------------------------------------------------===//
// Any pair
//===----------------------------------------------------------------------===//

/// Whether every value of one integer type is in another.
static bool isWithin(ElementType from, ElementType to) {
  return withIntegerType(from, [&](auto fromZero) {
    return withIntegerType(to, [&](auto toZero) {
      using From = std::numeric_limits<decltype(fromZero)>;
      using To = std::numeric_limits<decltype(toZero)>;
      return To::digits >= From::digits && To::is_signed >= From::is_signed;
    });
  });
}

Conversion mlir::moe::classifyConversion(ElementType from, ElementType to) {
  if (from == ElementType::Opaque || to == ElementType::Opaque)
    return Conversion::Unsupported;
  if (from == to)
    return Conversion::Same;
  if (isFloat(from) && isFloat(to))
    return APFloat::isRepresentableBy(getSemantics(from), getSemantics(to))
               ? Conversion::Exact
               : Conversion::Rounds;
  if (isInteger(from) && isInteger(to))
    return isWithin(from, to) ? Conversion::Exact : Conversion::Checked;
  return Conversion::Unsupported;
}

Error mlir::moe::convertElements(ElementType from, const void *source,
                                 ElementType to, void *destination,
                                 uint64_t count, uint64_t firstIndex) {
  Conversion conversion = classifyConversion(from, to);
  if (conversion == Conversion::Unsupported)
    return createStringError("there is no conversion from " + getName(from) +
                             " to " + getName(to));
  if (count == 0)
    return Error::success();
  if (conversion == Conversion::Same) {
    std::memcpy(destination, source, count * getElementSize(from));
    return Error::success();
  }
  const auto *in = static_cast<const uint8_t *>(source);
  auto *out = static_cast<uint8_t *>(destination);
  for (uint64_t done = 0; done < count; done += kBlock) {
    uint64_t n = std::min(kBlock, count - done);
    const uint8_t *blockIn = in + done * getElementSize(from);
    uint8_t *blockOut = out + done * getElementSize(to);
    if (isFloat(from)) {
      convertFloats(from, blockIn, to, blockOut, n);
      continue;
    }
    if (Error error =
            convertIntegers(from, blockIn, to, blockOut, n, firstIndex + done))
      return error;
  }
  return Error::success();
}
