//===- FloatConversionsTest.cpp - f16 and bf16 on any machine ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Compiles conversions for this machine's cpu and for one without instructions
/// for them, and compares with convertElements, which tensor files use.
///
//===----------------------------------------------------------------------===//

#include "TargetTest.h"
#include "moe/Target/Engine.h"
#include "llvm/TargetParser/Host.h"
#include <random>
#include <vector>

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr llvm::StringLiteral kText = R"(
  func.func @round(%f: tensor<?xf32>, %d: tensor<?xf64>)
      -> (tensor<?xbf16>, tensor<?xf16>, tensor<?xbf16>, tensor<?xf16>) {
    %0 = arith.truncf %f : tensor<?xf32> to tensor<?xbf16>
    %1 = arith.truncf %f : tensor<?xf32> to tensor<?xf16>
    %2 = arith.truncf %d : tensor<?xf64> to tensor<?xbf16>
    %3 = arith.truncf %d : tensor<?xf64> to tensor<?xf16>
    return %0, %1, %2, %3 : tensor<?xbf16>, tensor<?xf16>, tensor<?xbf16>, tensor<?xf16>
  }
  func.func @extend(%b: tensor<?xbf16>, %h: tensor<?xf16>)
      -> (tensor<?xf32>, tensor<?xf32>, tensor<?xf64>, tensor<?xf64>) {
    %0 = arith.extf %b : tensor<?xbf16> to tensor<?xf32>
    %1 = arith.extf %h : tensor<?xf16> to tensor<?xf32>
    %2 = arith.extf %b : tensor<?xbf16> to tensor<?xf64>
    %3 = arith.extf %h : tensor<?xf16> to tensor<?xf64>
    return %0, %1, %2, %3 : tensor<?xf32>, tensor<?xf32>, tensor<?xf64>, tensor<?xf64>
  })";

/// An array of elements of any type.
struct Array {
  Array(ElementType type, size_t count)
      : type(type), shape{static_cast<int64_t>(count)},
        bytes(count * getElementSize(type)) {}

  moe_tensor asTensor() {
    return {bytes.data(), shape, nullptr, 1, *getCType(type)};
  }
  size_t size() const { return shape[0]; }
  bool isNaN(size_t i) const {
    double value;
    llvm::cantFail(convertElements(type,
                                   bytes.data() + i * getElementSize(type),
                                   ElementType::F64, &value, 1));
    return value != value;
  }

  ElementType type;
  int64_t shape[1];
  std::vector<uint8_t> bytes;
};

/// Cpu and optimization level.
class FloatConversionsTest
    : public TargetTest,
      public ::testing::WithParamInterface<std::pair<const char *, unsigned>> {
protected:
  void SetUp() override {
    llvm::Triple host(llvm::sys::getProcessTriple());
    if (StringRef(GetParam().first) != "native" && !host.isX86())
      GTEST_SKIP() << "needs an x86";
  }

  /// Runs a function of kText on two arrays of one length.
  void run(StringRef name, Array &first, Array &second,
           MutableArrayRef<Array> results) {
    OwningOpRef<ModuleOp> module = parse(kText);
    EntryOptions entry;
    entry.entry = name.str();
    entry.exportShapes = true;
    StageDumper stages;
    FailureOr<EntrySignature> signature =
        lowerToLLVMDialect(*module, entry, stages);
    ASSERT_TRUE(succeeded(signature)) << diagnostics;
    CodeGenOptions options;
    options.cpu = GetParam().first;
    options.optLevel = GetParam().second;
    auto engine = Engine::create(*module, *signature, options);
    ASSERT_TRUE(bool(engine)) << textOf(engine.takeError());
    SmallVector<moe_tensor> tensors = {first.asTensor(), second.asTensor()};
    for (Array &result : results)
      tensors.push_back(result.asTensor());
    SmallVector<const moe_tensor *> pointers;
    for (const moe_tensor &tensor : tensors)
      pointers.push_back(&tensor);
    ASSERT_EQ(textOf((*engine)->call(pointers)), "");
  }

  /// Compares with convertElements, bit for bit but for what a NaN holds.
  static void expectConverted(const Array &source, const Array &result) {
    Array expected(result.type, result.size());
    llvm::cantFail(convertElements(source.type, source.bytes.data(),
                                   expected.type, expected.bytes.data(),
                                   source.size()));
    size_t width = getElementSize(result.type), numDifferent = 0;
    for (size_t i = 0; i < source.size(); ++i) {
      bool isSame = expected.isNaN(i)
                        ? result.isNaN(i)
                        : memcmp(&expected.bytes[i * width],
                                 &result.bytes[i * width], width) == 0;
      if (!isSame && ++numDifferent == 1)
        ADD_FAILURE() << getName(source.type).str() << " to "
                      << getName(result.type).str() << ": element " << i;
    }
    EXPECT_EQ(numDifferent, 0u);
  }
};

/// Values around all that a 16-bit type has: itself, half way to the next, and
/// a bit to either side of that.
std::vector<double> makeInterestingValues() {
  std::vector<double> values;
  for (ElementType type : {ElementType::BF16, ElementType::F16}) {
    for (uint32_t bits = 0; bits < (1u << 16); ++bits) {
      uint16_t pair[] = {static_cast<uint16_t>(bits),
                         static_cast<uint16_t>(bits + 1)};
      double value[2];
      llvm::cantFail(convertElements(type, pair, ElementType::F64, value, 2));
      double middle = (value[0] + value[1]) / 2;
      values.insert(values.end(),
                    {value[0], middle, middle * (1 - 1e-7), middle * (1 + 1e-7),
                     middle * (1 - 1e-16), middle * (1 + 3e-16)});
    }
  }
  std::mt19937_64 random(2026);
  for (int i = 0; i < 100000; ++i)
    values.push_back(llvm::bit_cast<double>(random()));
  return values;
}

TEST_P(FloatConversionsTest, rounds) {
  std::vector<double> values = makeInterestingValues();
  size_t count = values.size();
  Array f32(ElementType::F32, count), f64(ElementType::F64, count);
  memcpy(f64.bytes.data(), values.data(), f64.bytes.size());
  llvm::cantFail(convertElements(ElementType::F64, values.data(),
                                 ElementType::F32, f32.bytes.data(), count));
  Array results[] = {{ElementType::BF16, count},
                     {ElementType::F16, count},
                     {ElementType::BF16, count},
                     {ElementType::F16, count}};
  ASSERT_NO_FATAL_FAILURE(run("round", f32, f64, results));
  expectConverted(f32, results[0]);
  expectConverted(f32, results[1]);
  expectConverted(f64, results[2]);
  expectConverted(f64, results[3]);
}

TEST_P(FloatConversionsTest, extends) {
  constexpr size_t count = 1 << 16;
  Array bf16(ElementType::BF16, count), f16(ElementType::F16, count);
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits = static_cast<uint16_t>(i);
    memcpy(&bf16.bytes[2 * i], &bits, 2);
    memcpy(&f16.bytes[2 * i], &bits, 2);
  }
  Array results[] = {{ElementType::F32, count},
                     {ElementType::F32, count},
                     {ElementType::F64, count},
                     {ElementType::F64, count}};
  ASSERT_NO_FATAL_FAILURE(run("extend", bf16, f16, results));
  expectConverted(bf16, results[0]);
  expectConverted(f16, results[1]);
  expectConverted(bf16, results[2]);
  expectConverted(f16, results[3]);
}

using Machine = std::pair<const char *, unsigned>;
INSTANTIATE_TEST_SUITE_P(Machines, FloatConversionsTest,
                         ::testing::Values(Machine("native", 3),
                                           Machine("x86-64", 3),
                                           Machine("x86-64", 0)));

} // namespace
