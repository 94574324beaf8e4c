//===- ElementTypeTest.cpp - Names and conversions --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The oracle of the conversions is llvm::APFloat, which computes bit by bit.
//
//===----------------------------------------------------------------------===//

#include "moe/Support/ElementType.h"
#include "TestFiles.h"
#include "llvm/ADT/APFloat.h"
#include <cmath>
#include <limits>
#include <random>

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

namespace {
/// What the formats' documents say of a type; an empty name: they lack it.
struct KnownType {
  ElementType type;
  uint64_t size;
  StringRef name, safetensorsName, numpyDescr;
};
} // namespace

static const KnownType kKnownTypes[] = {
    {ElementType::F64, 8, "f64", "F64", "<f8"},
    {ElementType::F32, 4, "f32", "F32", "<f4"},
    {ElementType::F16, 2, "f16", "F16", "<f2"},
    {ElementType::BF16, 2, "bf16", "BF16", ""},
    {ElementType::F8E4M3FN, 1, "f8E4M3FN", "F8_E4M3", ""},
    {ElementType::F8E5M2, 1, "f8E5M2", "F8_E5M2", ""},
    {ElementType::I64, 8, "i64", "I64", "<i8"},
    {ElementType::I32, 4, "i32", "I32", "<i4"},
    {ElementType::I16, 2, "i16", "I16", "<i2"},
    {ElementType::I8, 1, "i8", "I8", "|i1"},
    {ElementType::U64, 8, "ui64", "U64", "<u8"},
    {ElementType::U32, 4, "ui32", "U32", "<u4"},
    {ElementType::U16, 2, "ui16", "U16", "<u2"},
    {ElementType::U8, 1, "ui8", "U8", "|u1"},
    {ElementType::Bool, 1, "i1", "BOOL", "|b1"}};

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

TEST(ElementTypeTest, NamesAndSizesAreThoseOfTheFormats) {
  for (const KnownType &expected : kKnownTypes) {
    EXPECT_EQ(getName(expected.type), expected.name);
    EXPECT_EQ(getElementSize(expected.type), expected.size);
    EXPECT_EQ(getSafetensorsName(expected.type), expected.safetensorsName);
    EXPECT_EQ(getNumpyDescr(expected.type), expected.numpyDescr);
    EXPECT_EQ(parseSafetensorsName(expected.safetensorsName), expected.type);
    if (!expected.numpyDescr.empty()) {
      EXPECT_EQ(parseNumpyDescr(expected.numpyDescr), expected.type);
    }
  }
  EXPECT_EQ(getElementSize(ElementType::Opaque), 0u);
}

TEST(ElementTypeTest, UnknownNamesAreNoType) {
  for (StringRef name : {"", "F4", "f32", "F32 ", "C64"})
    EXPECT_EQ(parseSafetensorsName(name), std::nullopt) << name.str();
  for (StringRef name : {"", ">f4", "f4", "<f3", "<V2"})
    EXPECT_EQ(parseNumpyDescr(name), std::nullopt) << name.str();
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
  default:
    return APFloat::Float8E5M2();
  }
}

static APFloat makeFloat(ElementType type, uint64_t bits) {
  const fltSemantics &semantics = getSemantics(type);
  return APFloat(semantics, APInt(APFloat::getSizeInBits(semantics), bits,
                                  /*isSigned=*/false, /*implicitTrunc=*/true));
}

/// What converting the bits of one float should give.
static uint64_t convertWithAPFloat(ElementType from, uint64_t bits,
                                   ElementType to) {
  APFloat value = makeFloat(from, bits);
  bool losesInfo;
  value.convert(getSemantics(to), APFloat::rmNearestTiesToEven, &losesInfo);
  return value.bitcastToAPInt().getZExtValue();
}

static bool isNaN(ElementType type, uint64_t bits) {
  return makeFloat(type, bits).isNaN();
}

/// Converts all `inputs` in one call and compares each with APFloat.
template <typename From, typename To>
static void checkFloats(ElementType from, ElementType to,
                        const std::vector<From> &inputs) {
  ASSERT_EQ(8 * sizeof(From), APFloat::getSizeInBits(getSemantics(from)));
  ASSERT_EQ(8 * sizeof(To), APFloat::getSizeInBits(getSemantics(to)));
  std::vector<To> outputs(inputs.size());
  expectSuccess(
      convertElements(from, inputs.data(), to, outputs.data(), inputs.size()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    uint64_t want = convertWithAPFloat(from, inputs[i], to);
    if (isNaN(to, want) && isNaN(to, outputs[i]))
      continue;
    ASSERT_EQ(uint64_t(outputs[i]), want)
        << getName(from).str() << " " << uint64_t(inputs[i]) << " to "
        << getName(to).str();
  }
}

template <typename T>
static std::vector<T> makeAllBits() {
  std::vector<T> values(size_t(1) << (8 * sizeof(T)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(i);
  return values;
}

/// Every value of a narrow float as wide float, the middle to its neighbour,
/// and the wide floats next to these: where rounding goes one way or another.
template <typename Wide, typename Bits, typename Narrow>
static void appendBoundaries(ElementType wide, ElementType narrow,
                             std::vector<Bits> &inputs) {
  for (Narrow bits : makeAllBits<Narrow>()) {
    Wide value = bit_cast<Wide>(
        static_cast<Bits>(convertWithAPFloat(narrow, bits, wide)));
    Wide next = bit_cast<Wide>(static_cast<Bits>(
        convertWithAPFloat(narrow, static_cast<Narrow>(bits + 1), wide)));
    if (!std::isfinite(value) || !std::isfinite(next))
      continue;
    Wide middle = value / 2 + next / 2;
    for (Wide center : {value, middle})
      for (Wide input : {center, std::nextafter(center, Wide(INFINITY)),
                         std::nextafter(center, Wide(-INFINITY))})
        inputs.push_back(bit_cast<Bits>(input));
  }
}

template <typename Bits>
static std::vector<Bits> makeRandomBits(size_t count) {
  std::mt19937_64 random(1);
  std::vector<Bits> values(count);
  for (Bits &value : values)
    value = static_cast<Bits>(random());
  return values;
}

TEST(ConversionTest, EveryNarrowFloatBecomesF32AndF64) {
  checkFloats<uint16_t, uint32_t>(ElementType::F16, ElementType::F32,
                                  makeAllBits<uint16_t>());
  checkFloats<uint16_t, uint32_t>(ElementType::BF16, ElementType::F32,
                                  makeAllBits<uint16_t>());
  checkFloats<uint16_t, uint64_t>(ElementType::F16, ElementType::F64,
                                  makeAllBits<uint16_t>());
  for (ElementType f8 : {ElementType::F8E4M3FN, ElementType::F8E5M2}) {
    checkFloats<uint8_t, uint32_t>(f8, ElementType::F32,
                                   makeAllBits<uint8_t>());
    checkFloats<uint8_t, uint16_t>(f8, ElementType::BF16,
                                   makeAllBits<uint8_t>());
  }
}

TEST(ConversionTest, NarrowFloatsBecomeEachOther) {
  checkFloats<uint16_t, uint16_t>(ElementType::F16, ElementType::BF16,
                                  makeAllBits<uint16_t>());
  checkFloats<uint16_t, uint16_t>(ElementType::BF16, ElementType::F16,
                                  makeAllBits<uint16_t>());
  checkFloats<uint16_t, uint8_t>(ElementType::BF16, ElementType::F8E4M3FN,
                                 makeAllBits<uint16_t>());
  checkFloats<uint16_t, uint8_t>(ElementType::F16, ElementType::F8E5M2,
                                 makeAllBits<uint16_t>());
}

TEST(ConversionTest, F32RoundsToNearestEven) {
  std::vector<uint32_t> inputs = makeRandomBits<uint32_t>(100'000);
  appendBoundaries<float, uint32_t, uint16_t>(ElementType::F32,
                                              ElementType::BF16, inputs);
  checkFloats<uint32_t, uint16_t>(ElementType::F32, ElementType::BF16, inputs);
  inputs = makeRandomBits<uint32_t>(100'000);
  appendBoundaries<float, uint32_t, uint16_t>(ElementType::F32,
                                              ElementType::F16, inputs);
  checkFloats<uint32_t, uint16_t>(ElementType::F32, ElementType::F16, inputs);
}

TEST(ConversionTest, F64RoundsOnce) {
  for (ElementType narrow : {ElementType::BF16, ElementType::F16}) {
    std::vector<uint64_t> inputs = makeRandomBits<uint64_t>(50'000);
    appendBoundaries<double, uint64_t, uint16_t>(ElementType::F64, narrow,
                                                 inputs);
    checkFloats<uint64_t, uint16_t>(ElementType::F64, narrow, inputs);
  }
  std::vector<uint64_t> inputs = makeRandomBits<uint64_t>(50'000);
  appendBoundaries<double, uint64_t, uint8_t>(ElementType::F64,
                                              ElementType::F8E4M3FN, inputs);
  checkFloats<uint64_t, uint8_t>(ElementType::F64, ElementType::F8E4M3FN,
                                 inputs);
  checkFloats<uint64_t, uint32_t>(ElementType::F64, ElementType::F32, inputs);
  // Half an ulp of bf16 above 1 and a little more, which f32 cannot hold: by
  // way of f32 this would be a tie, and become 1.
  double value = 1.0 + 0x1p-8 + 0x1p-40;
  uint16_t result;
  expectSuccess(
      convertElements(ElementType::F64, &value, ElementType::BF16, &result, 1));
  EXPECT_EQ(bf16ToF32(result), 1.0f + 0x1p-7f);
}

TEST(ConversionTest, NaNStaysQuietNaN) {
  for (uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fc00000u, 0x7fffffffu}) {
    float value = bit_cast<float>(bits);
    EXPECT_EQ(f32ToBF16(value) & 0x7fc0, 0x7fc0) << bits;
    EXPECT_EQ(f32ToF16(value) & 0x7e00, 0x7e00) << bits;
    EXPECT_EQ(f32ToBF16(value) >> 15, bits >> 31);
    EXPECT_EQ(f32ToF16(value) >> 15, bits >> 31);
  }
}

TEST(ConversionTest, NeitherArrayNeedsAlignment) {
  std::vector<float> values(3000);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = float(i) - 1500.5f;
  std::string source = "x" + toBytes(values);
  std::vector<char> destination(1 + 2 * values.size());
  expectSuccess(convertElements(ElementType::F32, source.data() + 1,
                                ElementType::BF16, destination.data() + 1,
                                values.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, destination.data() + 1 + 2 * i, 2);
    ASSERT_EQ(bits, f32ToBF16(values[i])) << i;
  }
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

template <typename From, typename To>
static Error convertInteger(ElementType from, From value, ElementType to,
                            To &result) {
  return convertElements(from, &value, to, &result, 1);
}

TEST(ConversionTest, IntegersThatFitKeepTheirValue) {
  int32_t i32;
  expectSuccess(convertInteger<int64_t>(ElementType::I64,
                                        std::numeric_limits<int32_t>::min(),
                                        ElementType::I32, i32));
  EXPECT_EQ(i32, std::numeric_limits<int32_t>::min());
  uint64_t u64;
  expectSuccess(
      convertInteger<int8_t>(ElementType::I8, 127, ElementType::U64, u64));
  EXPECT_EQ(u64, 127u);
  int64_t i64;
  expectSuccess(convertInteger<uint64_t>(ElementType::U64, uint64_t(1) << 62,
                                         ElementType::I64, i64));
  EXPECT_EQ(i64, int64_t(1) << 62);
}

TEST(ConversionTest, IntegersThatDoNotFitAreErrors) {
  int32_t i32;
  expectError(convertInteger<int64_t>(ElementType::I64, int64_t(1) << 31,
                                      ElementType::I32, i32),
              {"element 0 is 2147483648", "outside of i32",
               "-2147483648 to 2147483647"});
  uint64_t u64;
  expectError(
      convertInteger<int16_t>(ElementType::I16, -1, ElementType::U64, u64),
      {"is -1", "ui64"});
  int64_t i64;
  expectError(convertInteger<uint64_t>(ElementType::U64, ~uint64_t(0),
                                       ElementType::I64, i64),
              {"is 18446744073709551615", "i64"});
  uint8_t u8;
  expectError(
      convertInteger<uint64_t>(ElementType::U64, 256, ElementType::U8, u8),
      {"is 256", "ui8", "0 to 255"});
}

TEST(ConversionTest, TheErrorNamesTheElementOfTheWholeArray) {
  std::vector<int64_t> values(5000, 7);
  values[4321] = -200;
  std::vector<int8_t> result(values.size());
  expectError(convertElements(ElementType::I64, values.data(), ElementType::I8,
                              result.data(), values.size(), 10'000),
              {"element 14321 is -200"});
}

//===----------------------------------------------------------------------===//
// Which conversions there are
//===----------------------------------------------------------------------===//

TEST(ConversionTest, Classes) {
  using T = ElementType;
  auto check = [](T from, T to, Conversion want) {
    EXPECT_EQ(classifyConversion(from, to), want)
        << getName(from).str() << " to " << getName(to).str();
  };
  check(T::BF16, T::F32, Conversion::Exact);
  check(T::F8E5M2, T::F16, Conversion::Exact);
  check(T::F8E4M3FN, T::BF16, Conversion::Exact);
  check(T::F32, T::BF16, Conversion::Rounds);
  check(T::F16, T::BF16, Conversion::Rounds);
  check(T::BF16, T::F16, Conversion::Rounds);
  check(T::F8E5M2, T::F8E4M3FN, Conversion::Rounds);
  check(T::U8, T::I16, Conversion::Exact);
  check(T::U32, T::I32, Conversion::Checked);
  check(T::I8, T::U64, Conversion::Checked);
  check(T::I32, T::F32, Conversion::Unsupported);
  check(T::Bool, T::I8, Conversion::Unsupported);
  check(T::Opaque, T::Opaque, Conversion::Unsupported);
  for (const KnownType &expected : kKnownTypes)
    check(expected.type, expected.type, Conversion::Same);
}

/// Elements of one type become those of another, and come back.
static void checkThereAndBack(const KnownType &from, ElementType to) {
  bool isFloat = from.name.starts_with("f") || from.name == "bf16";
  std::vector<uint64_t> bits = makeRandomBits<uint64_t>(512);
  // Signalling NaNs may become quiet, so floats are all finite here.
  if (isFloat)
    for (uint64_t &value : bits)
      value &= 0x3b3b3b3b3b3b3b3bull;
  uint64_t count = 512 * sizeof(uint64_t) / from.size;
  std::vector<uint64_t> there(512 * 8), back(512);
  expectSuccess(
      convertElements(from.type, bits.data(), to, there.data(), count));
  expectSuccess(
      convertElements(to, there.data(), from.type, back.data(), count));
  EXPECT_EQ(bits, back) << from.name.str() << " " << getName(to).str();
}

TEST(ConversionTest, ExactMeansThatTheWayBackIsTheIdentity) {
  unsigned numExact = 0;
  for (const KnownType &from : kKnownTypes)
    for (const KnownType &to : kKnownTypes)
      if (classifyConversion(from.type, to.type) == Conversion::Exact) {
        ++numExact;
        checkThereAndBack(from, to.type);
      }
  // f16, bf16 and f8 to wider floats; integers to wider ones of their sign,
  // and unsigned to wider signed ones.
  EXPECT_GT(numExact, 20u);
}

TEST(ConversionTest, NoConversionIsAnError) {
  float value = 1;
  int32_t result;
  expectError(
      convertElements(ElementType::F32, &value, ElementType::I32, &result, 1),
      {"no conversion", "f32", "i32"});
}
