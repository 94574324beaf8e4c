//===- SafetensorsTest.cpp - .safetensors files -----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestFiles.h"
#include "moe/Support/TensorFile.h"

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

static Expected<SafetensorsFile> openBytes(StringRef bytes) {
  Folder folder;
  return SafetensorsFile::open(folder.write("x.safetensors", bytes));
}

static Expected<SafetensorsFile> open(StringRef header, StringRef data = "") {
  return openBytes(makeSafetensors(header, data));
}

/// One tensor "a" with this entry.
static Expected<SafetensorsFile> openEntry(StringRef entry,
                                           StringRef data = "") {
  return open(("{\"a\":" + entry + "}").str(), data);
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

TEST(SafetensorsTest, ReadsTensorsAndMetadata) {
  SafetensorsFile file = unwrap(
      open(R"({"__metadata__":{"format":"pt"},)"
           R"("b":{"dtype":"I8","shape":[],"data_offsets":[8,9]},)"
           R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}   )",
           toBytes<float>({1.5f, -2.0f}) + "\x05"));
  ASSERT_EQ(file.getTensors().size(), 2u);
  EXPECT_EQ(file.getTensors()[0].name, "a");
  const MappedTensor *a = file.find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->type, ElementType::F32);
  EXPECT_EQ(a->shape, (SmallVector<int64_t, 4>{2, 1}));
  EXPECT_EQ(getValues<float>(*a), (std::vector<float>{1.5f, -2.0f}));
  const MappedTensor *b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_TRUE(b->shape.empty());
  EXPECT_EQ(*b->data, 5);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.getMetadata().lookup("format"), "pt");
}

TEST(SafetensorsTest, ReadsEmptyFilesAndEmptyTensors) {
  EXPECT_TRUE(unwrap(open("{}")).getTensors().empty());
  SafetensorsFile file =
      unwrap(open(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                  R"("e":{"dtype":"F32","shape":[0,4],"data_offsets":[1,1]},)"
                  R"("b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                  "xy"));
  EXPECT_EQ(file.find("e")->byteSize, 0u);
  EXPECT_EQ(*file.find("b")->data, 'y');
}

TEST(SafetensorsTest, NamesAreUnescaped) {
  SafetensorsFile file = unwrap(openEntry(
      R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
      R"("\u00e9\"\\":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})"));
  EXPECT_NE(file.find("\xc3\xa9\"\\"), nullptr);
}

TEST(SafetensorsTest, UnknownTypesAreOpaque) {
  SafetensorsFile file = unwrap(
      openEntry(R"({"dtype":"F4","shape":[3,2],"data_offsets":[0,3]})", "xyz"));
  EXPECT_EQ(file.find("a")->type, ElementType::Opaque);
  EXPECT_EQ(file.find("a")->storedType, "F4");
}

TEST(SafetensorsTest, DataMayBeUnaligned) {
  SafetensorsFile file =
      unwrap(openEntry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]} )",
                       toBytes<float>({1})));
  SafetensorsFile shifted =
      unwrap(openEntry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]}  )",
                       toBytes<float>({1})));
  EXPECT_FALSE(file.find("a")->isAligned() && shifted.find("a")->isAligned());
  EXPECT_EQ(getValues<float>(*shifted.find("a")), std::vector<float>{1});
}

TEST(SafetensorsTest, TensorsOutliveTheFileObject) {
  MappedTensor tensor;
  {
    SafetensorsFile file = unwrap(
        openEntry(R"({"dtype":"U8","shape":[3],"data_offsets":[0,3]})", "xyz"));
    tensor = *file.find("a");
  }
  EXPECT_EQ(toStringRef(tensor.getBytes()), "xyz");
}

//===----------------------------------------------------------------------===//
// Refusing
//===----------------------------------------------------------------------===//

TEST(SafetensorsTest, RefusesOtherFiles) {
  expectError(openBytes(""), {"x.safetensors", "0 bytes", "at least 8"});
  expectError(openBytes("version https://git-lfs.github.com/spec/v1\noid"),
              {"Git LFS pointer", "git lfs pull"});
  expectError(openBytes(StringRef("\3\0\0\0\0\0\0\0abc", 11)),
              {"does not begin with '{'"});
  expectError(openBytes(makeSafetensors("")), {"does not begin with '{'"});
  expectError(openBytes(makeSafetensors(" {}")), {"does not begin with '{'"});
}

TEST(SafetensorsTest, RefusesHeadersThatCannotBe) {
  expectError(openBytes(StringRef("\0\0\0\0\0\0\0\x10{}", 10)),
              {"header of 1152921504606846976 bytes", "100000000"});
  expectError(openBytes(StringRef("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)),
              {"header of 18446744073709551615 bytes"});
  expectError(openBytes(StringRef("\x03\0\0\0\0\0\0\0{}", 10)),
              {"header has 3 bytes", "2 follow"});
}

TEST(SafetensorsTest, RefusesBrokenJson) {
  expectError(open("{"), {"JSON error at byte 1"});
  expectError(open("{\"a\"}"), {"expected ':'"});
  expectError(open("{\"a\":{}"), {"object does not end"});
  expectError(open("{\"a"), {"string does not end"});
  expectError(open("{\"a\\"), {"string does not end"});
  expectError(open("{\"__metadata__\":{}]"), {"expected ',' or '}'"});
  expectError(open("{} x"), {"something follows"});
  expectError(open("{\"\xff\":{}}"), {"not valid JSON"});
  expectError(open("{\"a\":[}]}"), {"does not close"});
  expectError(openEntry("{\"dtype\":\"F32\",\"shape\":[1,],\"data_offsets\":"
                        "[0,4]}",
                        "1234"),
              {"'a'", "shape"});
}

TEST(SafetensorsTest, RefusesDuplicates) {
  const char *entry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  expectError(open((Twine("{\"a\":") + entry + ",\"a\":" + entry + "}").str()),
              {"'a' is given twice"});
  // The same name by an escape.
  expectError(
      open((Twine("{\"a\":") + entry + ",\"\\u0061\":" + entry + "}").str()),
      {"'a' is given twice"});
  expectError(openEntry(R"({"dtype":"U8","shape":[0],"shape":[0],)"
                        R"("data_offsets":[0,0]})"),
              {"'a'", "'shape' is given twice"});
}

TEST(SafetensorsTest, RefusesBrokenEntries) {
  expectError(openEntry("3"), {"tensor 'a'", "expected '{'"});
  expectError(openEntry(R"({"shape":[0],"data_offsets":[0,0]})"),
              {"lacks a dtype"});
  expectError(openEntry(R"({"dtype":3,"shape":[0],"data_offsets":[0,0]})"),
              {"dtype should be a string"});
  expectError(openEntry(R"({"dtype":"U8","data_offsets":[0,0]})"), {"a shape"});
  expectError(openEntry(R"({"dtype":"U8","shape":[0],"data_offsets":[0]})"),
              {"data_offsets of two"});
  expectError(openEntry(R"({"dtype":"U8","shape":3,"data_offsets":[0,0]})"),
              {"shape should be an array"});
  for (StringRef size : {"-1", "1.5", "1e2", "\"1\"", "null",
                         "9223372036854775808", "36893488147419103232"})
    expectError(openEntry(("{\"dtype\":\"U8\",\"shape\":[" + size +
                           "],\"data_offsets\":[0,0]}")
                              .str()),
                {"'a'", "shape", "integers from 0"});
  expectError(open("{\"__metadata__\":{\"a\":3}}"),
              {"'__metadata__'", "'a' should be a string"});
}

TEST(SafetensorsTest, RefusesWrongSizes) {
  expectError(
      openEntry(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,20]})",
                std::string(20, 'x')),
      {"2x3xf32, 24 bytes", "span 20"});
  expectError(
      openEntry(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})", "abc"),
      {"[0, 4]", "3 bytes of data"});
  expectError(
      openEntry(R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})", "abcd"),
      {"[4, 0]"});
  expectError(
      openEntry(
          R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})"),
      {"4294967296x4294967296xf32", "more than 2^63"});
}

TEST(SafetensorsTest, RefusesHolesAndOverlaps) {
  auto openTwo = [](StringRef a, StringRef b) {
    std::string header =
        ("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + a +
         "},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + b + "}}")
            .str();
    return open(header, "12345");
  };
  expectError(openTwo("[0,2]", "[1,3]"),
              {"'b' begins at byte 1", "ends at byte 2", "overlap"});
  expectError(openTwo("[3,5]", "[0,2]"),
              {"'a' begins at byte 3", "ends at byte 2", "between"});
  expectError(openTwo("[1,3]", "[3,5]"), {"'a' begins at byte 1"});
  expectError(openTwo("[0,2]", "[2,4]"), {"end at byte 4", "there are 5"});
  expectError(openTwo("[0,2]", "[0,2]"), {"overlap"});
}

TEST(SafetensorsTest, HostileHeadersTakeNoStackAndNoMemory) {
  constexpr size_t size = 10'000'000;
  uint64_t before = getProcessStatus("VmHWM");
  expectError(openEntry(std::string(size, '[')), {"open brackets"});
  expectError(openEntry(std::string(size, '{')), {"open brackets"});
  std::string zeros = "[0";
  for (size_t i = 0; i < size / 2; ++i)
    zeros += ",0";
  zeros += "]";
  expectError(openEntry("{\"shape\":" + zeros + "}"),
              {"its entry", "more than"});
  expectError(open("{\"__metadata__\":{\"a\":" + zeros + "}}"),
              {"should be a string"});
#if !LLVM_ADDRESS_SANITIZER_BUILD // It keeps freed memory for a while.
  // Some copies of the text itself, which the test makes too.
  EXPECT_LE(getProcessStatus("VmHWM"), before + 12 * size);
#else
  (void)before;
#endif
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

TEST(SafetensorsTest, WritesWhatItReads) {
  Folder folder;
  std::string path = folder.getPath("y.safetensors");
  std::vector<uint8_t> bytes = {1, 2, 3};
  std::vector<uint16_t> halves = {0x3f80, 0x4000};
  std::vector<double> doubles = {0.5};
  std::vector<float> none;
  std::vector<TensorView> views = {
      makeView("bytes", ElementType::U8, {3}, bytes),
      makeView("a.\xc3\xa9\n", ElementType::BF16, {1, 2}, halves),
      makeView("none", ElementType::F32, {0}, none),
      makeView("scalar", ElementType::F64, {}, doubles)};
  expectSuccess(writeSafetensors(path, views, {{"format", "pt"}}));
  SafetensorsFile file = unwrap(SafetensorsFile::open(path));
  EXPECT_EQ(file.getTensors().size(), views.size());
  EXPECT_EQ(file.getMetadata().lookup("format"), "pt");
  for (const TensorView &view : views) {
    const MappedTensor *tensor = file.find(view.name);
    ASSERT_NE(tensor, nullptr) << view.name;
    EXPECT_EQ(tensor->type, view.type);
    EXPECT_EQ(tensor->shape, view.shape);
    EXPECT_EQ(tensor->getBytes(), view.getBytes());
    EXPECT_TRUE(tensor->isAligned()) << view.name;
  }
}

TEST(SafetensorsTest, RefusesToWriteWrongTensors) {
  Folder folder;
  std::string path = folder.getPath("y.safetensors");
  std::vector<uint8_t> values = {1, 2, 3};
  auto write = [&](std::vector<TensorView> views) {
    return writeSafetensors(path, views);
  };
  TensorView good = makeView("a", ElementType::U8, {3}, values);
  expectError(write({good, good}), {"y.safetensors", "'a' is given twice"});
  expectError(write({makeView("\xff", ElementType::U8, {3}, values)}),
              {"name that the format does not allow"});
  expectError(write({makeView("__metadata__", ElementType::U8, {3}, values)}),
              {"name that the format does not allow"});
  expectError(write({makeView("a", ElementType::U8, {4}, values)}),
              {"'a' is 4xui8", "has 3 bytes"});
  expectError(write({makeView("a", ElementType::Opaque, {3}, values)}),
              {"opaque"});
  expectError(writeSafetensors(path, good, {{"k", "1"}, {"k", "2"}}),
              {"metadata 'k'"});
  EXPECT_TRUE(folder.list().empty());
}
