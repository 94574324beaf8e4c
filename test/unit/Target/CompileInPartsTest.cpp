//===- CompileInPartsTest.cpp - Tests of machine code in parts --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/CompileInParts.h"
#include "TargetTest.h"
#include "moe/Target/CodeGen.h"
#include "llvm/AsmParser/Parser.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// An internal function (ptr, i64) so long that it is worth a part: it adds its
/// second argument to the i32 at the first one often, and then runs `more`.
std::string makeBody(StringRef name, StringRef more) {
  std::string text =
      "define internal void @" + name.str() + "(ptr %p, i64 %i) {\n";
  text += "  %n = trunc i64 %i to i32\n";
  for (int i = 0; i < 300; ++i) {
    std::string number = std::to_string(i);
    text += "  %a" + number + " = load volatile i32, ptr %p\n";
    text += "  %b" + number + " = add i32 %a" + number + ", %n\n";
    text += "  store volatile i32 %b" + number + ", ptr %p\n";
  }
  return text + more.str() + "  ret void\n}\n";
}

/// Two bodies, what both use, and a function that calls one by its address.
std::string makeLayer(StringRef more = "") {
  std::string uses = R"(
    %entry = getelementptr i32, ptr @table, i64 %i
    %scale = load i32, ptr %entry
    %helped = call i32 @helper(i32 %scale)
    %old = load i32, ptr @counter
    %new = add i32 %old, %helped
    store i32 %new, ptr @counter
  )";
  return R"(
    @counter = internal global i32 0
    @table = internal constant [3 x i32] [i32 1, i32 10, i32 100]
    @bodies = internal constant [2 x ptr] [ptr @first, ptr @second]
    @0 = private constant i32 7
    define internal i32 @helper(i32 %x) {
      %y = load i32, ptr @0
      %z = mul i32 %x, %y
      ret i32 %z
    }
    define internal i32 @only_firsts(i32 %x) noinline {
      %y = sdiv i32 %x, 2
      ret i32 %y
    }
    define i32 @run(i64 %which, i64 %i, ptr %p) {
      %entry = getelementptr ptr, ptr @bodies, i64 %which
      %body = load ptr, ptr %entry
      call void %body(ptr %p, i64 %i)
      %n = load i32, ptr @counter
      %h = call i32 @helper(i32 1)
      %sum = add i32 %n, %h
      ret i32 %sum
    })" + makeBody("first", uses + R"(
           %half = load i32, ptr %p
           %halved = call i32 @only_firsts(i32 %half)
           store i32 %halved, ptr %p
         )") +
         makeBody("second", uses + more.str());
}

class CompileInPartsTest : public ::testing::Test {
protected:
  llvm::Expected<SmallVector<ObjectFile>> compile(StringRef text,
                                                  unsigned optLevel = 3) {
    CodeGenOptions options;
    options.optLevel = optLevel;
    auto target = createTargetMachine(options);
    EXPECT_TRUE(bool(target));
    llvm::LLVMContext context;
    llvm::SMDiagnostic error;
    auto module = llvm::parseAssemblyString(text, error, context);
    if (!module)
      return llvm::createStringError(error.getMessage());
    module->setTargetTriple((*target)->getTargetTriple());
    module->setDataLayout((*target)->createDataLayout());
    StageDumper stages;
    return compileInParts(*module, **target, stages);
  }
};

/// The names of what objects define for others to see.
std::vector<std::string> getExported(ArrayRef<ObjectFile> objects) {
  std::vector<std::string> exported;
  for (const ObjectFile &object : objects) {
    llvm::MemoryBufferRef bytes(StringRef(object.data(), object.size()), "");
    auto file = llvm::object::ObjectFile::createObjectFile(bytes);
    EXPECT_TRUE(bool(file));
    for (llvm::object::SymbolRef symbol : (*file)->symbols()) {
      uint32_t flags = llvm::cantFail(symbol.getFlags());
      if ((flags & llvm::object::SymbolRef::SF_Exported) &&
          !(flags & llvm::object::SymbolRef::SF_Undefined))
        exported.push_back(llvm::cantFail(symbol.getName()).str());
    }
  }
  return exported;
}

class CompileInPartsLevelTest : public CompileInPartsTest,
                                public ::testing::WithParamInterface<unsigned> {
};

TEST_P(CompileInPartsLevelTest, sharesWhatSeveralPartsUse) {
  auto objects = compile(makeLayer(), GetParam());
  ASSERT_TRUE(bool(objects)) << textOf(objects.takeError());
  ASSERT_EQ(objects->size(), 3u);
  EXPECT_EQ(getExported(*objects), std::vector<std::string>({"run"}));

  auto jit = llvm::cantFail(llvm::orc::LLJITBuilder().create());
  for (ObjectFile &object : *objects)
    llvm::cantFail(jit->addObjectFile(
        std::make_unique<llvm::SmallVectorMemoryBuffer>(std::move(object))));
  auto run = llvm::cantFail(jit->lookup("run"))
                 .toPtr<int32_t(int64_t, int64_t, int32_t *)>();
  int32_t value = 0;
  // One counter, table and helper for all of them.
  EXPECT_EQ(run(0, 1, &value), 70 + 7);
  EXPECT_EQ(value, 150);
  EXPECT_EQ(run(1, 2, &value), 70 + 700 + 7);
  EXPECT_EQ(value, 750);
}

INSTANTIATE_TEST_SUITE_P(Levels, CompileInPartsLevelTest,
                         ::testing::Values(0u, 1u, 3u));

TEST_F(CompileInPartsTest, leavesShortBodiesAndWholeModules) {
  auto isOne = [&](StringRef text) {
    auto objects = compile(text);
    return objects ? objects->size() == 1
                   : (llvm::consumeError(objects.takeError()), false);
  };
  EXPECT_TRUE(isOne(R"(
    define internal void @short() { ret void }
    define ptr @f() { ret ptr @short })"));
  // Its body may be called, and nothing else be known of it.
  EXPECT_FALSE(
      isOne(makeBody("long", "") + "define ptr @f() { ret ptr @long }"));
  // Assembly and other names are of a whole module.
  EXPECT_TRUE(isOne("module asm \"# nothing\"\n" + makeLayer()));
  EXPECT_TRUE(isOne("@alias = internal alias i32, ptr @counter\n" +
                    makeLayer("store i32 1, ptr @alias\n")));
}

TEST_F(CompileInPartsTest, givesTheSameBytesAgain) {
  auto objects = compile(makeLayer()), again = compile(makeLayer());
  ASSERT_TRUE(bool(objects) && bool(again));
  EXPECT_TRUE(*objects == *again);
}

TEST_F(CompileInPartsTest, tellsErrorsOfAllParts) {
  auto failing = [](StringRef name) {
    return makeBody(name, "call void asm sideeffect \"" + name.str() +
                              "_instruction\", \"\"()\n");
  };
  auto objects = compile(failing("first") + failing("second") + R"(
    @bodies = constant [2 x ptr] [ptr @first, ptr @second])");
  ASSERT_FALSE(bool(objects));
  std::string text = textOf(objects.takeError());
  EXPECT_NE(text.find("first_instruction"), std::string::npos) << text;
  EXPECT_NE(text.find("second_instruction"), std::string::npos) << text;
}

} // namespace
