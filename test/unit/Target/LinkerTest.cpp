//===- LinkerTest.cpp - Tests of finding and using a linker -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/Linker.h"
#include "TargetTest.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdlib>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// What no linker of these tests reads.
constexpr char kBytes[] = {'x'};
const ArrayRef<char> kObject(kBytes);

/// A folder for programs, which PATH is during a test.
class LinkerTest : public ::testing::Test {
protected:
  void SetUp() override {
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("moe-linker", folder));
    savedPath = getenv("PATH");
    setenv("PATH", folder.c_str(), 1);
  }
  void TearDown() override {
    setenv("PATH", savedPath.c_str(), 1);
    llvm::sys::fs::remove_directories(folder);
  }

  /// A script of that name; returns its path.
  std::string addProgram(StringRef name, StringRef script) {
    SmallString<128> path = folder;
    llvm::sys::path::append(path, name);
    std::error_code error;
    llvm::raw_fd_ostream(path, error) << "#!/bin/sh\n" << script << '\n';
    EXPECT_FALSE(error);
    EXPECT_FALSE(llvm::sys::fs::setPermissions(path, llvm::sys::fs::owner_all));
    return path.str().str();
  }

  SmallString<128> folder;
  std::string savedPath;
};

std::string pathOrError(llvm::Expected<std::string> path) {
  return path ? *path : textOf(path.takeError());
}

TEST_F(LinkerTest, saysWhatToDoWithoutOne) {
  std::string text = pathOrError(findLinker("", {}));
  EXPECT_EQ(text.find("a shared object needs a linker, but there is no ld.lld"),
            0u);
  EXPECT_NE(text.find("--linker=PATH"), std::string::npos);
  EXPECT_EQ(pathOrError(findLinker("my-ld", {})),
            "there is no program 'my-ld' to link with");
}

TEST_F(LinkerTest, prefersLldThenLdThenDrivers) {
  std::string cc = addProgram("cc", "exit 0");
  EXPECT_EQ(pathOrError(findLinker("", {})), cc);
  std::string ld = addProgram("ld", "exit 0");
  EXPECT_EQ(pathOrError(findLinker("", {})), ld);
  std::string lld = addProgram("ld.lld", "exit 0");
  EXPECT_EQ(pathOrError(findLinker("", {})), lld);
  EXPECT_EQ(pathOrError(findLinker("cc", {})), cc);
  EXPECT_EQ(pathOrError(findLinker(cc, {})), cc);
}

TEST_F(LinkerTest, looksBesideLLVMLast) {
  std::string lld = addProgram("ld.lld", "exit 0");
  setenv("PATH", "/nonexistent", 1);
  EXPECT_EQ(pathOrError(findLinker("", {folder.str()})), lld);
}

TEST_F(LinkerTest, passesOnWhatTheLinkerSays) {
  LinkOptions options;
  options.linker = addProgram("ld", "echo no such luck >&2; exit 3");
  auto linked = linkSharedObject(kObject, options);
  ASSERT_FALSE(bool(linked));
  EXPECT_EQ(textOf(linked.takeError()), "linking with '" + options.linker +
                                            "' failed: exit code 3: no such "
                                            "luck");
}

TEST_F(LinkerTest, speaksToLinkersAndDrivers) {
  // The scripts print their command line, which becomes the error.
  const char *script = "echo \"$@\"; exit 1";
  auto getCommandLine = [&](StringRef program) {
    LinkOptions options;
    options.soname = "layer.so";
    options.linker = addProgram(program, script);
    return textOf(linkSharedObject(kObject, options).takeError());
  };
  std::string ld = getCommandLine("ld"), cc = getCommandLine("cc");
  EXPECT_NE(ld.find(": -shared -o "), std::string::npos) << ld;
  EXPECT_NE(ld.find(" -soname layer.so "), std::string::npos) << ld;
  EXPECT_EQ(ld.find("-Xlinker"), std::string::npos) << ld;
  EXPECT_NE(cc.find(" -Xlinker -soname -Xlinker layer.so "), std::string::npos)
      << cc;
  EXPECT_NE(cc.find(" -lm "), std::string::npos) << cc;
}

TEST_F(LinkerTest, distrustsLinkersThatWriteNothing) {
  LinkOptions options;
  options.linker = addProgram("ld", "exit 0");
  auto linked = linkSharedObject(kObject, options);
  ASSERT_FALSE(bool(linked));
  EXPECT_NE(textOf(linked.takeError())
                .find("reported success, but wrote no ELF shared object (0"),
            std::string::npos);
}

} // namespace
