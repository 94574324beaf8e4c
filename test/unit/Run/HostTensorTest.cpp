//===- HostTensorTest.cpp - Memory of tensors -----------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/HostTensor.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "gtest/gtest.h"

using namespace llvm;
using namespace mlir::moe;

namespace {
constexpr int64_t kMebi = 1 << 20;

#ifdef __linux__
/// What the system knows of the mapping that `data` is in: the line of its
/// flags in /proc/self/smaps.
std::string getMappingFlags(const void *data) {
  auto smaps = MemoryBuffer::getFileAsStream("/proc/self/smaps");
  if (!smaps)
    return "";
  auto address = reinterpret_cast<uintptr_t>(data);
  bool isInside = false;
  for (StringRef line : split((*smaps)->getBuffer(), '\n')) {
    uint64_t begin = 0, end = 0;
    auto [range, rest] = line.split(' ');
    auto [first, last] = range.split('-');
    if (!first.getAsInteger(16, begin) && !last.getAsInteger(16, end))
      isInside = begin <= address && address < end;
    if (isInside && line.starts_with("VmFlags:"))
      return line.str();
  }
  return "";
}

TEST(HostTensor, AsksForLargePagesWhereItIsLarge) {
  if (!sys::fs::exists("/sys/kernel/mm/transparent_hugepage"))
    GTEST_SKIP() << "this kernel has no large pages";
  auto large = HostTensor::allocate("w", {8 * kMebi}, ElementType::I8);
  ASSERT_TRUE(bool(large)) << toString(large.takeError());
  EXPECT_NE(getMappingFlags(large->getData()).find(" hg"), std::string::npos);
}
#endif

TEST(HostTensor, IsOfZeros) {
  auto tensor = HostTensor::allocate("w", {5 * kMebi}, ElementType::I8);
  ASSERT_TRUE(bool(tensor)) << toString(tensor.takeError());
  ASSERT_EQ(tensor->getByteSize(), uint64_t(5 * kMebi));
  EXPECT_TRUE(all_of(tensor->getMutableBytes(),
                     [](uint8_t byte) { return byte == 0; }));
}

TEST(HostTensor, SaysWhatThereIsNoMemoryFor) {
  auto tensor =
      HostTensor::allocate("w", {kMebi, kMebi, kMebi * kMebi}, ElementType::I8);
  ASSERT_FALSE(bool(tensor));
  std::string message = toString(tensor.takeError());
  EXPECT_NE(message.find("'w' is "), std::string::npos) << message;
  EXPECT_NE(message.find("make it smaller"), std::string::npos) << message;
}
} // namespace
