//===- TensorFileTest.cpp - Tensors and mapped files ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/TensorFile.h"
#include "TestFiles.h"
#include <limits>
#include <sys/stat.h>

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

TEST(TensorTest, BytesAreCheckedForOverflow) {
  constexpr int64_t max = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(getTensorBytes({2, 3}, ElementType::F32), 24u);
  EXPECT_EQ(getTensorBytes({}, ElementType::F64), 8u);
  EXPECT_EQ(getTensorBytes({max}, ElementType::U8), uint64_t(max));
  EXPECT_EQ(getTensorBytes({max, 0, max}, ElementType::F32), 0u);
  EXPECT_EQ(getTensorBytes({max}, ElementType::F16), std::nullopt);
  EXPECT_EQ(
      getTensorBytes({int64_t(1) << 32, int64_t(1) << 32}, ElementType::U8),
      std::nullopt);
  EXPECT_EQ(getTensorBytes({-1, 4}, ElementType::F32), std::nullopt);
  EXPECT_EQ(getTensorBytes({-1, 0}, ElementType::F32), std::nullopt);
  EXPECT_EQ(getTensorBytes({4}, ElementType::Opaque), std::nullopt);
}

TEST(TensorTest, TypesPrintAsInTheIR) {
  EXPECT_EQ(formatTensorType({8, -1, 4}, ElementType::BF16), "8x?x4xbf16");
  EXPECT_EQ(formatTensorType({}, ElementType::U8), "ui8");
}

TEST(TensorTest, NamesOfAnyBytesPrint) {
  EXPECT_EQ(quoteName("a.b"), "'a.b'");
  EXPECT_EQ(quoteName(StringRef("a\n\0b", 4)), "'a\\0A\\00b'");
  std::string quoted = quoteName(std::string(100'000, 'x'));
  EXPECT_LT(quoted.size(), 200u);
  EXPECT_NE(quoted.find("(100000 bytes)"), std::string::npos);
}

TEST(TensorTest, AlignmentFollowsTheElementType) {
  std::vector<double> values(2);
  TensorView view = makeView("x", ElementType::F64, {2}, values);
  EXPECT_TRUE(view.isAligned());
  view.data += 4;
  EXPECT_FALSE(view.isAligned());
  view.type = ElementType::F32;
  EXPECT_TRUE(view.isAligned());
}

TEST(MappedFileTest, MapsAFile) {
  Folder folder;
  auto file = unwrap(MappedFile::open(folder.write("x", "hello")));
  EXPECT_EQ(toStringRef(file->getBytes()), "hello");
  auto empty = unwrap(MappedFile::open(folder.write("empty", "")));
  EXPECT_TRUE(empty->getBytes().empty());
}

TEST(MappedFileTest, RefusesWhatIsNoFile) {
  Folder folder;
  expectError(MappedFile::open(folder.getPath("missing")),
              {"missing", "No such file"});
  expectError(MappedFile::open(folder.getPath()), {"is a folder"});
  std::string pipe = folder.getPath("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  expectError(MappedFile::open(pipe), {"pipe", "not a regular file"});
}

TEST(MappedFileTest, DroppedPagesLeaveMemoryAndCanBeReadAgain) {
  constexpr size_t size = 32 << 20;
  Folder folder;
  auto file =
      unwrap(MappedFile::open(folder.write("x", std::string(size, 'a'))));
  uint64_t before = getProcessStatus("RssFile");
  if (before == 0)
    GTEST_SKIP() << "no RssFile in /proc/self/status";
  auto sum = [&] {
    uint64_t sum = 0;
    for (uint8_t byte : file->getBytes())
      sum += byte;
    return sum;
  };
  EXPECT_EQ(sum(), size * 'a');
  EXPECT_GE(getProcessStatus("RssFile"), before + size * 9 / 10);
  file->dropPages(file->getBytes());
  EXPECT_LE(getProcessStatus("RssFile"), before + (1 << 20));
  EXPECT_EQ(sum(), size * 'a');
}
