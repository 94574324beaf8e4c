//===- BoundTensorTest.cpp - Tensors as arguments ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/BoundTensor.h"
#include "TestModel.h"
#include <cmath>

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

static constexpr StringLiteral kPattern = "layer.experts.{expert}.up.weight";

/// The values of expert `expert`: 2x3, and not all of them bf16.
static std::vector<float> makeExpert(int64_t expert) {
  std::vector<float> values;
  for (int i = 0; i < 6; ++i)
    values.push_back(float(expert) * 10 + float(i) + 0x1p-12f);
  return values;
}

static void addExpert(Model &model, int64_t expert,
                      ArrayRef<int64_t> shape = {2, 3}) {
  model.add("layer.experts." + std::to_string(expert) + ".up.weight",
            ElementType::F32, shape, makeExpert(expert));
}

//===----------------------------------------------------------------------===//
// One tensor
//===----------------------------------------------------------------------===//

TEST(BoundTensorTest, APlainTensorIsUsedInPlace) {
  Model model;
  model.add<float>("w", ElementType::F32, {2, 2}, {1, 2, 3, 4});
  Checkpoint checkpoint = model.open();
  BoundTensor bound =
      unwrap(BoundTensor::bind(checkpoint, "w", {2, -1}, ElementType::F32));
  EXPECT_EQ(bound.getShape(), (ArrayRef<int64_t>{2, 2}));
  EXPECT_EQ(bound.getMappedData(), unwrap(checkpoint.lookup("w")).data);
  EXPECT_EQ(bound.getNote(), "");
  EXPECT_EQ(copyValues<float>(bound), (std::vector<float>{1, 2, 3, 4}));
}

TEST(BoundTensorTest, IntegersHaveNoSign) {
  Model model;
  model.add<uint8_t>("w", ElementType::U8, {2}, {1, 200});
  Checkpoint checkpoint = model.open();
  BoundTensor bound =
      unwrap(BoundTensor::bind(checkpoint, "w", {2}, ElementType::I8));
  EXPECT_NE(bound.getMappedData(), nullptr);
  EXPECT_EQ(copyValues<uint8_t>(bound), (std::vector<uint8_t>{1, 200}));
}

TEST(BoundTensorTest, RoundingIsNoted) {
  Model model;
  model.add<float>("w", ElementType::F32, {3}, {1, 1 + 0x1p-8f, -2});
  Checkpoint checkpoint = model.open();
  BoundTensor bound =
      unwrap(BoundTensor::bind(checkpoint, "w", {3}, ElementType::BF16));
  EXPECT_EQ(bound.getMappedData(), nullptr);
  EXPECT_EQ(bound.getByteSize(), 6u);
  EXPECT_EQ(copyValues<uint16_t>(bound),
            (std::vector<uint16_t>{0x3f80, 0x3f80, 0xc000}));
  EXPECT_TRUE(bound.getNote().starts_with("'w' (f32 in '"))
      << bound.getNote().str();
  EXPECT_TRUE(bound.getNote().ends_with(
      "model.safetensors') is rounded to nearest even to bf16"))
      << bound.getNote().str();
}

TEST(BoundTensorTest, OtherConversionsAreNotedToo) {
  Model model;
  model.add<uint16_t>("w", ElementType::BF16, {1}, {0x3f80});
  model.add<int64_t>("ids", ElementType::I64, {2}, {5, 6});
  Checkpoint checkpoint = model.open();
  BoundTensor w =
      unwrap(BoundTensor::bind(checkpoint, "w", {1}, ElementType::F32));
  EXPECT_TRUE(w.getNote().ends_with("is widened without loss to f32"));
  EXPECT_EQ(copyValues<float>(w), std::vector<float>{1});
  BoundTensor ids =
      unwrap(BoundTensor::bind(checkpoint, "ids", {2}, ElementType::I32));
  EXPECT_TRUE(
      ids.getNote().ends_with("is narrowed, every value checked, to i32"));
  EXPECT_EQ(copyValues<int32_t>(ids), (std::vector<int32_t>{5, 6}));
}

TEST(BoundTensorTest, AValueThatDoesNotFitIsAnError) {
  Model model;
  model.add<int64_t>("ids", ElementType::I64, {2}, {5, int64_t(1) << 40});
  Checkpoint checkpoint = model.open();
  BoundTensor ids =
      unwrap(BoundTensor::bind(checkpoint, "ids", {2}, ElementType::I32));
  std::vector<uint8_t> place(8);
  expectError(ids.copyTo(place), {"'ids'", "element 1 is 1099511627776"});
}

TEST(BoundTensorTest, WrongShapesGiveBoth) {
  Model model;
  model.add<float>("w", ElementType::F32, {2, 2}, {1, 2, 3, 4});
  Checkpoint checkpoint = model.open();
  auto bind = [&](ArrayRef<int64_t> shape) {
    return BoundTensor::bind(checkpoint, "w", shape, ElementType::F32);
  };
  expectError(bind({2, 3}),
              {"'w'", "model.safetensors", "is 2x2xf32", "2x3xf32"});
  expectError(bind({-1}), {"is 2x2xf32", "?xf32"});
  expectError(bind({}), {"is 2x2xf32", "the argument is f32"});
}

TEST(BoundTensorTest, WrongTypesAreRefused) {
  Model model;
  model.add<float>("w", ElementType::F32, {1}, {1});
  Checkpoint checkpoint = model.open();
  expectError(BoundTensor::bind(checkpoint, "w", {1}, ElementType::I32),
              {"'w'", "1xf32", "cannot become i32"});
  Folder folder;
  Checkpoint opaque = unwrap(Checkpoint::open(folder.write(
      "f4.safetensors",
      makeSafetensors(
          R"({"q":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", "x"))));
  expectError(BoundTensor::bind(opaque, "q", {2}, ElementType::I8),
              {"'q'", "f4.safetensors", "(F4)", "cannot become i8"});
}

TEST(BoundTensorTest, BoolsAreZeroOrOne) {
  Model model;
  model.add<uint8_t>("good", ElementType::Bool, {3}, {0, 1, 1});
  model.add<uint8_t>("bad", ElementType::Bool, {3}, {0, 1, 200});
  Checkpoint checkpoint = model.open();
  BoundTensor good =
      unwrap(BoundTensor::bind(checkpoint, "good", {3}, ElementType::Bool));
  EXPECT_NE(good.getMappedData(), nullptr);
  expectError(BoundTensor::bind(checkpoint, "bad", {3}, ElementType::Bool),
              {"'bad'", "element 2 is 200", "0 or 1"});
}

TEST(BoundTensorTest, UnalignedDataIsCopied) {
  Folder folder;
  bool sawUnaligned = false;
  for (StringRef padding : {"", " ", "  ", "   "}) {
    std::string header =
        (R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + padding)
            .str();
    Checkpoint checkpoint = unwrap(Checkpoint::open(folder.write(
        "x.safetensors", makeSafetensors(header, toBytes<float>({1, 2})))));
    BoundTensor bound =
        unwrap(BoundTensor::bind(checkpoint, "w", {2}, ElementType::F32));
    bool aligned = unwrap(checkpoint.lookup("w")).isAligned();
    EXPECT_EQ(bound.getMappedData() != nullptr, aligned);
    sawUnaligned |= !aligned;
    EXPECT_EQ(copyValues<float>(bound), (std::vector<float>{1, 2}));
  }
  EXPECT_TRUE(sawUnaligned);
}

TEST(BoundTensorTest, NpyFilesBindToo) {
  Folder folder;
  std::string path = folder.getPath("x.npy");
  std::vector<float> values = {1, 2, 3};
  expectSuccess(writeNpy(path, makeView("x", ElementType::F32, {3}, values)));
  BoundTensor bound =
      unwrap(BoundTensor::bind(unwrap(readNpy(path)), {-1}, ElementType::BF16));
  EXPECT_EQ(copyValues<uint16_t>(bound),
            (std::vector<uint16_t>{0x3f80, 0x4000, 0x4040}));
  EXPECT_TRUE(bound.getNote().contains("x.npy"));
}

//===----------------------------------------------------------------------===//
// Experts
//===----------------------------------------------------------------------===//

TEST(BoundTensorTest, ExpertsAreStackedInTheOrderOfTheirNumbers) {
  Model model;
  // More than ten, so that the order of the names is another.
  for (int64_t expert = 11; expert >= 0; --expert)
    addExpert(model, expert);
  model.add<float>("layer.experts.5.down.weight", ElementType::F32, {1}, {1});
  model.add<float>("layer.experts.05.up.weight", ElementType::F32, {1}, {1});
  Checkpoint checkpoint = model.open();
  for (int64_t numExperts : {-1, 12}) {
    BoundTensor bound = unwrap(BoundTensor::bind(
        checkpoint, kPattern, {numExperts, 2, -1}, ElementType::F32));
    EXPECT_EQ(bound.getShape(), (ArrayRef<int64_t>{12, 2, 3}));
    EXPECT_EQ(bound.getMappedData(), nullptr);
    EXPECT_EQ(bound.getNote(), "");
    std::vector<float> want;
    for (int64_t expert = 0; expert < 12; ++expert)
      append_range(want, makeExpert(expert));
    EXPECT_EQ(copyValues<float>(bound), want);
  }
}

TEST(BoundTensorTest, ExpertsAreConverted) {
  Model model;
  for (int64_t expert : {0, 1, 2})
    addExpert(model, expert);
  Checkpoint checkpoint = model.open();
  BoundTensor bound = unwrap(
      BoundTensor::bind(checkpoint, kPattern, {3, 2, 3}, ElementType::BF16));
  std::vector<uint16_t> want;
  for (int64_t expert = 0; expert < 3; ++expert)
    for (float value : makeExpert(expert))
      want.push_back(f32ToBF16(value));
  EXPECT_EQ(copyValues<uint16_t>(bound), want);
  EXPECT_TRUE(bound.getNote().starts_with(("'" + kPattern + "' (f32").str()));
}

TEST(BoundTensorTest, TheNumberOfExpertsMustAgree) {
  Model model;
  for (int64_t expert : {0, 1, 2})
    addExpert(model, expert);
  Checkpoint checkpoint = model.open();
  for (int64_t numExperts : {0, 2, 4})
    expectError(BoundTensor::bind(checkpoint, kPattern, {numExperts, 2, 3},
                                  ElementType::F32),
                {kPattern.data(), "has 3 experts",
                 ("argument has " + std::to_string(numExperts)).c_str(),
                 "or '?'"});
}

TEST(BoundTensorTest, AMissingExpertIsNamed) {
  Model model;
  for (int64_t expert : {0, 1, 3, 4})
    addExpert(model, expert);
  Checkpoint checkpoint = model.open();
  expectError(
      BoundTensor::bind(checkpoint, kPattern, {-1, 2, 3}, ElementType::F32),
      {"there is no 'layer.experts.2.up.weight'", "4 experts",
       "'layer.experts.4.up.weight'"});
}

TEST(BoundTensorTest, ExpertsMustHaveOneShapeAndType) {
  Model shapes;
  addExpert(shapes, 0);
  addExpert(shapes, 1, {3, 2});
  Checkpoint checkpoint = shapes.open();
  expectError(
      BoundTensor::bind(checkpoint, kPattern, {2, 2, 3}, ElementType::F32),
      {"'layer.experts.1.up.weight'", "is 3x2xf32",
       "each expert of the argument is 2x3xf32"});
  expectError(
      BoundTensor::bind(checkpoint, kPattern, {2, -1, -1}, ElementType::F32),
      {"'layer.experts.1.up.weight'", "is 3x2xf32",
       "'layer.experts.0.up.weight'", "is 2x3xf32", "one shape"});
  Model types;
  addExpert(types, 0);
  types.add<uint16_t>("layer.experts.1.up.weight", ElementType::BF16, {2, 3},
                      {1, 2, 3, 4, 5, 6});
  checkpoint = types.open();
  expectError(
      BoundTensor::bind(checkpoint, kPattern, {2, 2, 3}, ElementType::F32),
      {"2x3xbf16", "2x3xf32", "one type"});
}

TEST(BoundTensorTest, UnknownPatternsGiveTheNearestNames) {
  Model model;
  addExpert(model, 0);
  Checkpoint checkpoint = model.open();
  expectError(BoundTensor::bind(checkpoint,
                                "layer.experts.{expert}.down.weight",
                                {-1, 2, 3}, ElementType::F32),
              {"'layer.experts.{expert}.down.weight'",
               "no tensor 'layer.experts.0.down.weight'", "nearest",
               "'layer.experts.0.up.weight'"});
  expectError(BoundTensor::bind(checkpoint, "{expert}.{expert}", {-1},
                                ElementType::F32),
              {"more than one {expert}"});
  expectError(BoundTensor::bind(checkpoint, kPattern, {}, ElementType::F32),
              {"is a scalar", "?xf32"});
}

TEST(BoundTensorTest, TheDestinationMustHaveTheSize) {
  Model model;
  addExpert(model, 0);
  Checkpoint checkpoint = model.open();
  BoundTensor bound = unwrap(
      BoundTensor::bind(checkpoint, kPattern, {1, 2, 3}, ElementType::F32));
  std::vector<uint8_t> place(23);
  expectError(bound.copyTo(place), {"1x2x3xf32", "24 bytes", "has 23"});
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// A checkpoint of `count` experts of `bytes` bytes each, as a sparse file.
static std::string writeSparseExperts(const Folder &folder, int64_t count,
                                      uint64_t bytes) {
  std::vector<SparseTensor> tensors;
  for (int64_t expert = 0; expert < count; ++expert)
    tensors.push_back(
        {"e." + std::to_string(expert), "F32", {int64_t(bytes / 4)}, bytes});
  return writeSparse(folder, tensors);
}

// Experts of an odd size, so that no page belongs to one of them alone at the
// ends, and of more than one chunk of the copy.
TEST(BoundTensorTest, MemoryNeverHoldsBothCopies) {
  constexpr int64_t count = 12;
  constexpr uint64_t bytes = (5 << 20) + 12340;
  Folder folder;
  Checkpoint checkpoint =
      unwrap(Checkpoint::open(writeSparseExperts(folder, count, bytes)));
  uint64_t before = getProcessStatus("RssFile");
  if (before == 0)
    GTEST_SKIP() << "no RssFile in /proc/self/status";
  BoundTensor bound = unwrap(BoundTensor::bind(
      checkpoint, "e.{expert}", {-1, int64_t(bytes / 4)}, ElementType::BF16));
  std::vector<uint8_t> place(bound.getByteSize(), 1);
  uint64_t peakBefore = getProcessStatus("VmHWM");
  expectSuccess(bound.copyTo(place));
  // One chunk of 4 MB while it is copied, and at the end nothing.
  EXPECT_LE(getProcessStatus("VmHWM"), peakBefore + (8 << 20));
  EXPECT_LE(getProcessStatus("RssFile"), before + (1 << 20));
  EXPECT_TRUE(all_of(place, [](uint8_t byte) { return byte == 0; }));
}

// What a page fault maps beside the page, times the number of experts.
TEST(BoundTensorTest, ManySmallExpertsLeaveNothingBehind) {
  constexpr int64_t count = 300;
  constexpr uint64_t bytes = (256 << 10) + 4936;
  Folder folder;
  Checkpoint checkpoint =
      unwrap(Checkpoint::open(writeSparseExperts(folder, count, bytes)));
  uint64_t before = getProcessStatus("RssFile");
  if (before == 0)
    GTEST_SKIP() << "no RssFile in /proc/self/status";
  BoundTensor bound = unwrap(BoundTensor::bind(
      checkpoint, "e.{expert}", {count, int64_t(bytes / 4)}, ElementType::F32));
  std::vector<uint8_t> place(bound.getByteSize());
  expectSuccess(bound.copyTo(place));
  EXPECT_LE(getProcessStatus("RssFile"), before + (1 << 20));
}
