//===- CodeGenTest.cpp - Tests of target machines ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/CodeGen.h"
#include "TargetTest.h"
#include "llvm/TargetParser/Host.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

std::string errorOf(StringRef triple, StringRef cpu) {
  auto machine = createTargetMachine({triple.str(), cpu.str(), 3});
  return machine ? "" : textOf(machine.takeError());
}

TEST(TargetMachineTest, knowsThisMachine) {
  auto machine = createTargetMachine({});
  ASSERT_TRUE(bool(machine)) << textOf(machine.takeError());
  EXPECT_EQ((*machine)->getTargetCPU(), llvm::sys::getHostCPUName());
  EXPECT_TRUE((*machine)->isPositionIndependent());
}

TEST(TargetMachineTest, knowsOthers) {
  EXPECT_EQ(errorOf("x86_64-linux-gnu", "x86-64-v3"), "");
  EXPECT_EQ(errorOf("aarch64-linux-gnu", "neoverse-n1"), "");
}

TEST(TargetMachineTest, suggestsCPUs) {
  EXPECT_EQ(errorOf("x86_64-linux-gnu", "znver44")
                .find("unknown cpu 'znver44' for x86_64; the nearest of "),
            0u);
  EXPECT_NE(errorOf("x86_64-linux-gnu", "znver44").find("'znver4'"),
            std::string::npos);
  // A cpu of another machine.
  EXPECT_NE(errorOf("x86_64-linux-gnu", "neoverse-n1"), "");
  EXPECT_NE(errorOf("x86_64-linux-gnu", ""), "");
}

TEST(TargetMachineTest, refusesWhatItCannotDo) {
  EXPECT_EQ(errorOf("nonsense", "generic").find("unknown target triple "), 0u);
  EXPECT_EQ(errorOf("i686-linux-gnu", "i686"),
            "i686-unknown-linux-gnu does not have 64-bit pointers");
  llvm::Triple host(llvm::sys::getProcessTriple());
  StringRef foreign = host.isX86() ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  EXPECT_EQ(
      errorOf(foreign, "native").find("the cpu 'native' is this machine's"),
      0u);
}

class TranslationTest : public TargetTest {
protected:
  std::string translate(StringRef text, ArrayRef<std::string> exported) {
    OwningOpRef<ModuleOp> module = parse(text);
    auto machine = createTargetMachine({});
    llvm::LLVMContext llvmContext;
    auto translated =
        translateToLLVMIR(*module, **machine, exported, llvmContext);
    if (!translated)
      return textOf(translated.takeError());
    std::string names;
    for (const llvm::Function &function : **translated)
      if (!function.hasLocalLinkage())
        names += function.getName().str() + " ";
    return names;
  }
};

TEST_F(TranslationTest, hidesWhatIsNotExported) {
  EXPECT_EQ(translate(R"(
    llvm.func @callee() -> i32
    llvm.func @helper() { llvm.return }
    llvm.func @f() -> i32 {
      llvm.call @helper() : () -> ()
      %0 = llvm.call @callee() : () -> i32
      llvm.return %0 : i32
    })",
                      {"f"}),
            "callee f ");
}

TEST_F(TranslationTest, checksMalloc) {
  EXPECT_EQ(translate(R"(
    llvm.func @malloc(i64) -> !llvm.ptr
    llvm.func @f(%n: i64) -> !llvm.ptr {
      %p = llvm.call @malloc(%n) : (i64) -> !llvm.ptr
      llvm.return %p : !llvm.ptr
    })",
                      {"f"}),
            "malloc f abort ");
}

TEST_F(TranslationTest, refusesNames) {
  EXPECT_EQ(translate("llvm.func @g() { llvm.return }", {"f"}),
            "the module does not define 'f'");
  EXPECT_EQ(translate("llvm.func @expf() { llvm.return }", {"expf"}),
            "'expf' is a function of the C library; rename the entry");
}

} // namespace
