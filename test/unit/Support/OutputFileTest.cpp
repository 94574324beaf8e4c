//===- OutputFileTest.cpp - Files that are written whole or not -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/OutputFile.h"
#include "TestFiles.h"
#include <csignal>
#include <sys/resource.h>
#include <unistd.h>

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

static Error writeText(StringRef path, StringRef text) {
  return writeFileAtomically(path, [&](raw_ostream &os) -> Error {
    os << text;
    return Error::success();
  });
}

static Error writeAndFail(StringRef path) {
  return writeFileAtomically(path, [&](raw_ostream &os) -> Error {
    os << "half of";
    return createStringError("the rest is missing");
  });
}

TEST(OutputFileTest, WritesAndReplaces) {
  Folder folder;
  std::string path = folder.getPath("out.txt");
  expectSuccess(writeText(path, "a long first text"));
  expectSuccess(writeText(path, "second"));
  EXPECT_EQ(readBytes(path), "second");
  EXPECT_EQ(folder.list(), std::vector<std::string>{"out.txt"});
}

TEST(OutputFileTest, AFailureLeavesNothing) {
  Folder folder;
  expectError(writeAndFail(folder.getPath("out.txt")),
              {"out.txt", "the rest is missing"});
  EXPECT_TRUE(folder.list().empty());
}

TEST(OutputFileTest, AFailureLeavesTheOldFile) {
  Folder folder;
  std::string path = folder.write("out.txt", "old");
  expectError(writeAndFail(path), {"the rest is missing"});
  EXPECT_EQ(readBytes(path), "old");
  EXPECT_EQ(folder.list(), std::vector<std::string>{"out.txt"});
}

TEST(OutputFileTest, FollowsSymbolicLinks) {
  Folder folder;
  std::string target = folder.write("target.txt", "old");
  std::string link = folder.getPath("link.txt");
  ASSERT_FALSE(sys::fs::create_link(target, link));
  expectSuccess(writeText(link, "new"));
  EXPECT_EQ(readBytes(target), "new");
  EXPECT_TRUE(sys::fs::is_symlink_file(link));
}

TEST(OutputFileTest, NamesWhatCannotBeWritten) {
  Folder folder;
  expectError(writeText(folder.getPath("no/such/out.txt"), "x"),
              {"no/such/out.txt", "the folder must exist"});
  expectError(writeText(folder.getPath(), "x"), {"is a folder"});
}

TEST(OutputFileTest, DevicesAreWrittenDirectly) {
  expectSuccess(writeText("/dev/null", "x"));
  EXPECT_TRUE(sys::fs::exists("/dev/null"));
  EXPECT_FALSE(sys::fs::is_regular_file("/dev/null"));
}

TEST(OutputFileTest, AFullDeviceIsAnError) {
  if (!sys::fs::exists("/dev/full"))
    GTEST_SKIP() << "no /dev/full";
  expectError(writeText("/dev/full", "x"), {"/dev/full", "space"});
}

TEST(OutputFileTest, AFullDiskIsAnErrorAndLeavesNothing) {
  Folder folder;
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  auto oldHandler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = {1000, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Error error = writeText(folder.getPath("out"), std::string(100'000, 'x'));
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, oldHandler);
  expectError(std::move(error), {"out"});
  EXPECT_TRUE(folder.list().empty());
}
