//===- QuantizedTensorTest.cpp - Codes and scales ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/QuantizedTensor.h"
#include "TestModel.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <numeric>
#include <random>

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

/// `w` of a checkpoint as an argument of that type.
template <typename T>
static std::vector<T> readValues(Checkpoint &checkpoint, StringRef name,
                                 ArrayRef<int64_t> shape, ElementType type) {
  BoundTensor bound = unwrap(BoundTensor::bind(checkpoint, name, shape, type));
  EXPECT_EQ(bound.getMappedData(), nullptr);
  return copyValues<T>(bound);
}

static std::vector<uint8_t> makeBytes(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t &byte : bytes)
    byte = static_cast<uint8_t>(random() >> 24);
  return bytes;
}

static void expectError(Checkpoint &checkpoint, StringRef name,
                        ArrayRef<int64_t> shape, ArrayRef<const char *> parts) {
  expectError(BoundTensor::bind(checkpoint, name, shape, ElementType::BF16),
              parts);
}

//===----------------------------------------------------------------------===//
// mxfp4
//===----------------------------------------------------------------------===//

/// The value of an e2m1 code: sign, two bits of exponent, one of mantissa.
static double e2m1(unsigned code) {
  unsigned exponent = code >> 1 & 3, mantissa = code & 1;
  double value =
      exponent ? std::ldexp(2.0 + mantissa, int(exponent) - 2) : 0.5 * mantissa;
  return code & 8 ? -value : value;
}

static Model makeMxfp4(int64_t experts, int64_t rows, int64_t groups,
                       const std::vector<uint8_t> &blocks,
                       const std::vector<uint8_t> &scales) {
  Model model;
  model.add("w_blocks", ElementType::U8, {experts, rows, groups, 16}, blocks);
  model.add("w_scales", ElementType::U8, {experts, rows, groups}, scales);
  return model;
}

TEST(Mxfp4Test, AllCodesUnderAllScales) {
  std::vector<uint8_t> blocks, scales;
  for (unsigned scale = 0; scale < 256; ++scale) {
    scales.push_back(scale);
    for (unsigned i = 0; i < 16; ++i) // The lower code first: 0, 1, ..., 15.
      blocks.push_back(i < 8 ? (2 * i + 1) << 4 | 2 * i : 0);
  }
  Model model = makeMxfp4(1, 1, 256, blocks, scales);
  Checkpoint checkpoint = model.open();
  std::vector<uint16_t> values = readValues<uint16_t>(
      checkpoint, "w", {1, 256 * 32, 1}, ElementType::BF16);
  for (int scale = 0; scale < 256; ++scale)
    for (unsigned code = 0; code < 32; ++code) {
      double want = code < 16 ? std::ldexp(e2m1(code), scale - 127) : 0.0;
      EXPECT_EQ(values[scale * 32 + code], f32ToBF16(static_cast<float>(want)))
          << "code " << code << ", scale " << scale;
    }
}

// More rows than a tile, and no multiple of it.
TEST(Mxfp4Test, ExpertsAreTransposed) {
  constexpr int64_t experts = 3, rows = 131, groups = 5;
  std::vector<uint8_t> blocks = makeBytes(experts * rows * groups * 16, 1);
  std::vector<uint8_t> scales = makeBytes(experts * rows * groups, 2);
  Model model = makeMxfp4(experts, rows, groups, blocks, scales);
  Checkpoint checkpoint = model.open();
  auto f64 = readValues<double>(checkpoint, "w", {-1, groups * 32, rows},
                                ElementType::F64);
  auto f32 =
      readValues<float>(checkpoint, "w", {experts, -1, rows}, ElementType::F32);
  ASSERT_EQ(f64.size(), size_t(experts * rows * groups * 32));
  size_t i = 0;
  for (int64_t e = 0; e < experts; ++e)
    for (int64_t k = 0; k < groups * 32; ++k)
      for (int64_t n = 0; n < rows; ++n, ++i) {
        int64_t block = (e * rows + n) * groups + k / 32;
        uint8_t pair = blocks[block * 16 + k % 32 / 2];
        double value = e2m1(k % 2 ? pair >> 4 : pair & 15);
        float want =
            static_cast<float>(std::ldexp(value, int(scales[block]) - 127));
        ASSERT_EQ(f32[i], want) << e << " " << k << " " << n;
        ASSERT_EQ(f64[i], static_cast<double>(want)) << e << " " << k;
      }
}

TEST(Mxfp4Test, IsNoted) {
  Model model = makeMxfp4(1, 2, 1, makeBytes(32, 1), {127, 127});
  Checkpoint checkpoint = model.open();
  BoundTensor bound =
      unwrap(BoundTensor::bind(checkpoint, "w", {1, 32, 2}, ElementType::BF16));
  EXPECT_TRUE(bound.getNote().starts_with("'w' (mxfp4 in '"));
  EXPECT_TRUE(bound.getNote().ends_with("') is dequantized to bf16"))
      << bound.getNote().str();
}

TEST(Mxfp4Test, NothingIsDequantizedToNothing) {
  Model model = makeMxfp4(0, 2, 1, {}, {});
  Checkpoint checkpoint = model.open();
  EXPECT_TRUE(
      readValues<uint16_t>(checkpoint, "w", {0, 32, 2}, ElementType::BF16)
          .empty());
}

TEST(Mxfp4Test, SizesMayNotOverflow) {
  int64_t groups = int64_t(1) << 59;
  Model model = makeMxfp4(0, 2, groups, {}, {});
  Checkpoint checkpoint = model.open();
  expectError(checkpoint, "w", {0, -1, 2}, {"'w_blocks'", "2^63 inputs"});
}

TEST(Mxfp4Test, ShapesMustFit) {
  Model model = makeMxfp4(1, 2, 1, makeBytes(32, 1), {127, 127});
  Checkpoint checkpoint = model.open();
  // Not transposed.
  expectError(checkpoint, "w", {1, 2, 32},
              {"'w' in '", "dequantized from mxfp4, 1x32x2",
               "the argument is 1x2x32xbf16"});
  Model scales;
  scales.add("w_blocks", ElementType::U8, {1, 2, 1, 16}, makeBytes(32, 1));
  scales.add("w_scales", ElementType::U8, {1, 2, 2}, makeBytes(4, 1));
  checkpoint = scales.open();
  expectError(checkpoint, "w", {1, 32, 2},
              {"'w_scales'", "1x2x2xui8", "'w_blocks'", "1x2x1x16xui8",
               "takes 1x2x1 scales", "download"});
  Model wide;
  wide.add("w_blocks", ElementType::U8, {1, 2, 32}, makeBytes(64, 1));
  wide.add("w_scales", ElementType::U8, {1, 2, 2}, makeBytes(4, 1));
  checkpoint = wide.open();
  expectError(checkpoint, "w", {1, 64, 2},
              {"'w_blocks'", "1x2x32xui8", "ExNxGx16xui8", "bf16 as 'w'"});
}

TEST(Mxfp4Test, TypesMustFit) {
  Model blocks;
  blocks.add("w_blocks", ElementType::I8, {1, 2, 1, 16}, makeBytes(32, 1));
  Checkpoint checkpoint = blocks.open();
  expectError(checkpoint, "w", {1, 32, 2},
              {"'w_blocks'", "1x2x1x16xi8", "ExNxGx16xui8"});
  Model scales;
  scales.add("w_blocks", ElementType::U8, {1, 2, 1, 16}, makeBytes(32, 1));
  scales.add("w_scales", ElementType::F32, {1, 2, 1}, std::vector<float>{1, 1});
  checkpoint = scales.open();
  expectError(checkpoint, "w", {1, 32, 2},
              {"'w_scales'", "1x2x1xf32", "scales must be ui8"});
}

TEST(Mxfp4Test, MissingScalesAreNamed) {
  Model model;
  model.add("w_blocks", ElementType::U8, {1, 2, 1, 16}, makeBytes(32, 1));
  Checkpoint checkpoint = model.open();
  expectError(checkpoint, "w", {1, 32, 2},
              {"'w_blocks'", "1x2x1x16xui8", "scales are missing",
               "no tensor 'w_scales'", "not complete"});
}

// The name itself comes first, and integers take no dequantized values.
TEST(Mxfp4Test, IsReadWhereItIsNeeded) {
  Model model = makeMxfp4(1, 2, 1, makeBytes(32, 1), {127, 127});
  model.add<float>("both", ElementType::F32, {1}, {3});
  model.add("both_blocks", ElementType::U8, {1, 1, 1, 16}, makeBytes(16, 1));
  Checkpoint checkpoint = model.open();
  BoundTensor both =
      unwrap(BoundTensor::bind(checkpoint, "both", {1}, ElementType::F32));
  EXPECT_NE(both.getMappedData(), nullptr);
  expectError(BoundTensor::bind(checkpoint, "w", {1, 32, 2}, ElementType::I32),
              {"no tensor 'w'"});
}

//===----------------------------------------------------------------------===//
// fp8
//===----------------------------------------------------------------------===//

/// The value of an e4m3fn code.
static float e4m3(uint8_t code) {
  int exponent = code >> 3 & 15, mantissa = code & 7;
  float value = exponent ? std::ldexp(float(8 + mantissa), exponent - 10)
                         : std::ldexp(float(mantissa), -9);
  if ((code & 0x7f) == 0x7f)
    value = NAN;
  return code & 0x80 ? -value : value;
}

/// Whether `got` is `want`; every NaN is.
static bool isSame(float got, float want) {
  return (std::isnan(got) && std::isnan(want)) ||
         (got == want && std::signbit(got) == std::signbit(want));
}

// 256 codes a row, under scales from subnormal to infinite.
TEST(Fp8Test, AllCodesUnderExtremeScales) {
  std::vector<float> factors = {0x1p-149f, 0x1p-126f, 0x1.8p-130f, 0.1f, 1.0f,
                                -3.0f,     0x1p127f,  INFINITY,    NAN,  0.0f};
  int64_t rows = factors.size();
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  for (float factor : factors) {
    scales.insert(scales.end(), 2, factor);
    for (unsigned code = 0; code < 256; ++code)
      codes.push_back(code);
  }
  Model model;
  model.add("w", ElementType::F8E4M3FN, {rows, 256}, codes);
  model.add("w_scale_inv", ElementType::F32, {rows, 2}, scales);
  Checkpoint checkpoint = model.open();
  auto bf16 =
      readValues<uint16_t>(checkpoint, "w", {rows, 256}, ElementType::BF16);
  auto f32 = readValues<float>(checkpoint, "w", {-1, 256}, ElementType::F32);
  for (int64_t row = 0; row < rows; ++row)
    for (unsigned code = 0; code < 256; ++code) {
      float want = e4m3(code) * factors[row];
      size_t i = row * 256 + code;
      EXPECT_TRUE(isSame(f32[i], want)) << f32[i] << " for " << want;
      EXPECT_TRUE(isSame(bf16ToF32(bf16[i]), bf16ToF32(f32ToBF16(want))))
          << bf16[i] << " for " << want;
    }
}

/// Checks `shape` with blocks of `rows` by `columns`, where the last may be
/// smaller.
static void checkBlocks(std::vector<int64_t> shape, int64_t rows,
                        int64_t columns, const char *layout) {
  size_t rank = shape.size();
  std::vector<int64_t> grid = shape;
  grid[rank - 2] = (shape[rank - 2] + rows - 1) / rows;
  grid[rank - 1] = (shape[rank - 1] + columns - 1) / columns;
  size_t count = 1, scaleCount = 1;
  for (size_t i = 0; i < rank; ++i) {
    count *= shape[i];
    scaleCount *= grid[i];
  }
  std::vector<uint8_t> codes = makeBytes(count, 3);
  std::vector<uint16_t> scales; // 1, 1 + 2^-7, ... in bf16.
  for (size_t i = 0; i < scaleCount; ++i)
    scales.push_back(0x3f80 + i);
  Model model;
  model.add("w", ElementType::F8E4M3FN, shape, codes);
  model.add("w_scale_inv", ElementType::BF16, grid, scales);
  Checkpoint checkpoint = model.open();
  EXPECT_EQ(unwrap(QuantizedTensor::open(checkpoint, "w")).describeLayout(),
            layout);
  auto values = readValues<float>(checkpoint, "w", shape, ElementType::F32);
  ASSERT_EQ(values.size(), count);
  for (size_t i = 0; i < count; ++i) {
    size_t column = i % shape[rank - 1], row = i / shape[rank - 1];
    size_t matrix = row / shape[rank - 2];
    row %= shape[rank - 2];
    size_t block = (matrix * grid[rank - 2] + row / rows) * grid[rank - 1] +
                   column / columns;
    ASSERT_TRUE(isSame(values[i], e4m3(codes[i]) * bf16ToF32(scales[block])))
        << i << " in block " << block;
  }
}

TEST(Fp8Test, BlocksShareAScale) {
  checkBlocks({256, 384}, 128, 128, "f8E4M3FN in blocks of 128x128");
  checkBlocks({1, 1}, 128, 128, "f8E4M3FN in blocks of 128x128");
}

TEST(Fp8Test, BlocksAtTheEdgeAreSmaller) {
  checkBlocks({300, 129}, 128, 128, "f8E4M3FN in blocks of 128x128");
  checkBlocks({127, 1300}, 128, 128, "f8E4M3FN in blocks of 128x128");
  // Two scales for 192 are 128 and 64, not 96 and 96.
  checkBlocks({192, 192}, 128, 128, "f8E4M3FN in blocks of 128x128");
}

TEST(Fp8Test, OtherBlocksDivideTheTensor) {
  checkBlocks({64, 96}, 1, 32, "f8E4M3FN in blocks of 1x32");
  checkBlocks({6, 256}, 3, 64, "f8E4M3FN in blocks of 3x64");
}

TEST(Fp8Test, ExpertsMayBeStacked) {
  checkBlocks({3, 200, 260}, 128, 128, "f8E4M3FN in blocks of 128x128");
  Model model;
  for (int expert = 0; expert < 2; ++expert) {
    std::string name = "e." + std::to_string(expert) + ".weight";
    model.add<uint8_t>(name, ElementType::F8E4M3FN, {1, 2}, {0x38, 0xb8});
    model.add<float>(name + "_scale_inv", ElementType::F32, {1, 1},
                     {float(expert + 2)});
  }
  Checkpoint checkpoint = model.open();
  EXPECT_EQ(readValues<float>(checkpoint, "e.{expert}.weight", {2, 1, 2},
                              ElementType::F32),
            (std::vector<float>{2, -2, 3, -3}));
}

TEST(Fp8Test, ScalesMayBePowersOfTwo) {
  Model model;
  model.add<uint8_t>("w", ElementType::F8E4M3FN, {1, 96},
                     std::vector<uint8_t>(96, 0x38));
  model.add<uint8_t>("w_scale_inv", ElementType::U8, {1, 3}, {0, 128, 255});
  Checkpoint checkpoint = model.open();
  auto values = readValues<float>(checkpoint, "w", {1, 96}, ElementType::F32);
  EXPECT_EQ(values[31], 0x1p-127f);
  EXPECT_EQ(values[32], 2.0f);
  EXPECT_EQ(values[64], INFINITY);
}

// An argument in fp8 takes the codes; e5m2 has scales as e4m3 does.
TEST(Fp8Test, IsReadWhereItIsNeeded) {
  Model model;
  model.add<uint8_t>("w", ElementType::F8E4M3FN, {2, 2}, {1, 2, 3, 4});
  model.add<uint8_t>("v", ElementType::F8E5M2, {1, 2}, {0x3c, 0xc0});
  model.add<float>("v_scale_inv", ElementType::F32, {1, 1}, {3});
  Checkpoint checkpoint = model.open();
  BoundTensor codes =
      unwrap(BoundTensor::bind(checkpoint, "w", {2, 2}, ElementType::F8E4M3FN));
  EXPECT_NE(codes.getMappedData(), nullptr);
  EXPECT_EQ(codes.getNote(), "");
  EXPECT_EQ(readValues<float>(checkpoint, "v", {1, 2}, ElementType::F32),
            (std::vector<float>{3, -6}));
}

TEST(Fp8Test, MissingScalesAreNamed) {
  Model model;
  model.add<uint8_t>("w", ElementType::F8E4M3FN, {2, 2}, {1, 2, 3, 4});
  model.add<float>("w_scale", ElementType::F32, {1, 1}, {1});
  Checkpoint checkpoint = model.open();
  expectError(checkpoint, "w", {2, 2},
              {"'w' in '", "is 2x2xf8E4M3FN", "scales are missing",
               "no tensor 'w_scale_inv'", "'w_scale'", "store it in bf16 if"});
}

TEST(Fp8Test, ScalesMustFit) {
  struct {
    std::vector<int64_t> codes, scales;
    std::vector<const char *> message;
  } cases[] = {
      {{256, 200}, {2, 3}, {"2x3xf32", "256x200xf8E4M3FN", "takes 2x2"}},
      {{256, 200}, {3, 2}, {"3x2xf32", "takes 2x2"}},
      {{256, 200}, {4}, {"'w_scale_inv'", "is 4xf32", "takes 2x2"}},
      {{256, 200}, {0, 2}, {"0x2xf32", "takes 2x2"}},
      {{2, 128, 128}, {3, 1, 1}, {"3x1x1xf32", "takes 2x1x1"}},
      {{256}, {2}, {"'w'", "256xf8E4M3FN", "2 dimensions"}},
  };
  for (const auto &test : cases) {
    Model model;
    auto count = [](ArrayRef<int64_t> shape) {
      return std::accumulate(shape.begin(), shape.end(), int64_t(1),
                             std::multiplies<>());
    };
    model.add("w", ElementType::F8E4M3FN, test.codes,
              std::vector<uint8_t>(count(test.codes)));
    model.add("w_scale_inv", ElementType::F32, test.scales,
              std::vector<float>(count(test.scales)));
    Checkpoint checkpoint = model.open();
    expectError(checkpoint, "w", test.codes, test.message);
  }
}

TEST(Fp8Test, TypesMustFit) {
  Model model;
  model.add<uint8_t>("w", ElementType::F8E4M3FN, {2, 2}, {1, 2, 3, 4});
  model.add<int32_t>("w_scale_inv", ElementType::I32, {1, 1}, {1});
  Checkpoint checkpoint = model.open();
  expectError(
      checkpoint, "w", {2, 2},
      {"'w_scale_inv'", "1x1xi32", "scales must be f32 or bf16 or f16 or ui8"});
  expectError(BoundTensor::bind(checkpoint, "w", {2, 2}, ElementType::I32),
              {"'w'", "cannot become i32"});
}

TEST(Fp8Test, ExpertsMustHaveOneLayout) {
  Model model;
  model.add<uint8_t>("e.0", ElementType::F8E4M3FN, {1, 1}, {1});
  model.add<float>("e.0_scale_inv", ElementType::F32, {1, 1}, {1});
  model.add<float>("e.1", ElementType::F32, {1, 1}, {1});
  Checkpoint checkpoint = model.open();
  expectError(checkpoint, "e.{expert}", {2, 1, 1},
              {"'e.1'", "1x1xf32", "'e.0'", "f8E4M3FN in blocks of 128x128",
               "one type"});
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// Dequantizes `name`, and checks that no more of the file than a chunk of 4 MB
/// and what lies around it was in memory.
static void checkMemory(ArrayRef<SparseTensor> tensors, StringRef name,
                        ArrayRef<int64_t> shape) {
  Folder folder;
  Checkpoint checkpoint =
      unwrap(Checkpoint::open(writeSparse(folder, tensors)));
  uint64_t before = getProcessStatus("RssFile");
  if (before == 0)
    GTEST_SKIP() << "no RssFile in /proc/self/status";
  BoundTensor bound =
      unwrap(BoundTensor::bind(checkpoint, name, shape, ElementType::BF16));
  std::vector<uint8_t> place(bound.getByteSize(), 1);
  uint64_t peakBefore = getProcessStatus("VmHWM");
  expectSuccess(bound.copyTo(place));
  EXPECT_LE(getProcessStatus("VmHWM"), peakBefore + (8 << 20));
  EXPECT_LE(getProcessStatus("RssFile"), before + (1 << 20));
  EXPECT_TRUE(all_of(place, [](uint8_t byte) { return byte == 0; }));
}

TEST(Mxfp4Test, MemoryNeverHoldsBothCopies) {
  int64_t experts = 4, rows = 2050, groups = 200;
  uint64_t blocks = experts * rows * groups;
  checkMemory({{"w_blocks", "U8", {experts, rows, groups, 16}, blocks * 16},
               {"w_scales", "U8", {experts, rows, groups}, blocks}},
              "w", {experts, groups * 32, rows});
}

TEST(Fp8Test, MemoryNeverHoldsBothCopies) {
  int64_t experts = 6, rows = 1500, columns = 4100;
  std::vector<SparseTensor> tensors;
  for (int64_t expert = 0; expert < experts; ++expert) {
    std::string name = "e." + std::to_string(expert);
    tensors.push_back(
        {name, "F8_E4M3", {rows, columns}, uint64_t(rows * columns)});
    tensors.push_back({name + "_scale_inv", "F32", {12, 33}, 12 * 33 * 4});
  }
  checkMemory(tensors, "e.{expert}", {experts, rows, columns});
}
