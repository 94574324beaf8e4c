//===- ISATest.cpp - Tests of the choice of a version -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/ISA.h"
#include "TargetTest.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "moe/Target/ChooseISA.h"
#include "moe/Target/CodeGen.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/TargetParser/Host.h"
#include <cstdlib>

using namespace mlir;
using namespace mlir::moe;

namespace {

std::vector<std::string> namesOf(ArrayRef<ISA> isas) {
  std::vector<std::string> names;
  for (const ISA &isa : isas)
    names.push_back(isa.name.str());
  return names;
}

TEST(ISATest, sortsNames) {
  auto isas = parseISAs("avx2,generic,avx512,avx2");
  ASSERT_TRUE(bool(isas)) << textOf(isas.takeError());
  EXPECT_EQ(namesOf(*isas),
            (std::vector<std::string>{"avx512", "avx2", "generic"}));
}

TEST(ISATest, refusesNames) {
  auto unknown = parseISAs("avx2,sse9");
  ASSERT_FALSE(bool(unknown));
  EXPECT_EQ(textOf(unknown.takeError())
                .find("there is no instruction set 'sse9'; there are generic, "
                      "avx2, avx512, avx512bf16, amx-bf16"),
            0u);
  for (StringRef names : {"", "avx2,", "avx2, avx512"}) {
    auto isas = parseISAs(names);
    EXPECT_FALSE(bool(isas)) << names.str();
    llvm::consumeError(isas.takeError());
  }
}

/// The functions that choose, as machine code.
class ChooseISATest : public TargetTest {
protected:
  void SetUp() override {
    if (llvm::Triple(llvm::sys::getProcessTriple()).getArch() !=
        llvm::Triple::x86_64)
      GTEST_SKIP() << "versions are for x86_64";
  }

  void compile(StringRef names) {
    auto isas = parseISAs(names);
    ASSERT_TRUE(bool(isas)) << textOf(isas.takeError());
    context.loadDialect<LLVM::LLVMDialect>();
    OwningOpRef<ModuleOp> module = parse("");
    addChooseISA(*module, "f", *isas);
    for (auto function : module->getOps<LLVM::LLVMFuncOp>())
      function.setLinkage(LLVM::Linkage::External);
    auto machine = createTargetMachine({"", "x86-64", 3});
    ASSERT_TRUE(bool(machine));
    llvm::LLVMContext llvmContext;
    auto llvmModule = translateToLLVMIR(
        *module, **machine, {"f.isa", "f.choose_isa", "moe.machine_features"},
        llvmContext);
    ASSERT_TRUE(bool(llvmModule)) << textOf(llvmModule.takeError());
    optimize(**llvmModule, **machine);
    auto object = emitMachineCode(**llvmModule, **machine,
                                  llvm::CodeGenFileType::ObjectFile);
    ASSERT_TRUE(bool(object));
    jit = llvm::cantFail(llvm::orc::LLJITBuilder().create());
    jit->getMainJITDylib().addGenerator(llvm::cantFail(
        llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
            jit->getDataLayout().getGlobalPrefix())));
    llvm::cantFail(
        jit->addObjectFile(std::make_unique<llvm::SmallVectorMemoryBuffer>(
            std::move(*object), /*RequiresNullTerminator=*/false)));
  }

  template <typename Function>
  Function *lookUp(StringRef name) {
    auto address = jit->lookup(name);
    if (!address) {
      ADD_FAILURE() << textOf(address.takeError());
      std::abort();
    }
    return address->template toPtr<Function *>();
  }
  int32_t choose(uint32_t features, const char *wanted) {
    return lookUp<int32_t(uint32_t, const char *)>("f.choose_isa")(features,
                                                                   wanted);
  }

  std::unique_ptr<llvm::orc::LLJIT> jit;
};

constexpr uint32_t kNothing = 0, kOld = kHasAVX2, kServer = kOld | kHasAVX512,
                   kNew = kServer | kHasAVX512BF16;

TEST_F(ChooseISATest, takesTheBest) {
  compile("avx2,avx512,avx512bf16");
  for (const char *unset : {static_cast<const char *>(nullptr), ""}) {
    EXPECT_EQ(choose(kNew, unset), 0);
    EXPECT_EQ(choose(kServer, unset), 1);
    EXPECT_EQ(choose(kOld, unset), 2);
    EXPECT_EQ(choose(kNothing, unset), -MOE_UNSUPPORTED_CPU);
  }
  // A feature without those that it goes with is none.
  EXPECT_EQ(choose(kHasAVX512 | kHasAVX512BF16, nullptr), -MOE_UNSUPPORTED_CPU);
  EXPECT_EQ(choose(kHasAVX2 | kHasAVX512BF16, nullptr), 2);
}

TEST_F(ChooseISATest, takesWhatIsNamed) {
  compile("avx2,avx512,avx512bf16");
  EXPECT_EQ(choose(kNew, "avx512bf16"), 0);
  EXPECT_EQ(choose(kNew, "avx512"), 1);
  EXPECT_EQ(choose(kNew, "avx2"), 2);
  EXPECT_EQ(choose(kOld, "avx2"), 2);
  // Never what would be an illegal instruction.
  EXPECT_EQ(choose(kOld, "avx512"), -MOE_UNSUPPORTED_CPU);
  EXPECT_EQ(choose(kNothing, "avx2"), -MOE_UNSUPPORTED_CPU);
  for (const char *name : {"avx", "avx51", "avx512bf16 ", "AVX2", "generic"})
    EXPECT_EQ(choose(kNew, name), -MOE_UNKNOWN_ISA) << name;
}

TEST_F(ChooseISATest, runsGenericCodeAnywhere) {
  compile("generic,avx2");
  EXPECT_EQ(choose(kNew, nullptr), 0);
  EXPECT_EQ(choose(kNothing, nullptr), 1);
  EXPECT_EQ(choose(kNew, "generic"), 1);
}

TEST_F(ChooseISATest, knowsThisMachine) {
  compile("generic,avx2,avx512,avx512bf16");
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  uint32_t features = lookUp<uint32_t()>("moe.machine_features")();
  EXPECT_EQ(bool(features & kHasAVX2), host["avx2"] && host["fma"]);
  EXPECT_EQ(bool(features & kHasAVX512), host["avx512f"] && host["avx512vl"]);
  EXPECT_EQ(bool(features & kHasAVX512BF16), host["avx512bf16"]);
  EXPECT_EQ(bool(features & kHasAMXBF16), host["amx-bf16"]);
}

// A system that knows no tiles refuses them, whatever CPUID tells.
TEST_F(ChooseISATest, asksForTiles) {
  compile("avx2,avx512bf16,amx-bf16");
  bool granted = llvm::sys::getHostCPUFeatures()["amx-bf16"];
  EXPECT_EQ(choose(kNew | kHasAMXBF16, nullptr), granted ? 0 : 1);
  EXPECT_EQ(choose(kNew | kHasAMXBF16, "amx-bf16"),
            granted ? 0 : -MOE_UNSUPPORTED_CPU);
  EXPECT_EQ(choose(kNew | kHasAMXBF16, "avx512bf16"), 1);
  EXPECT_EQ(choose(kNew, nullptr), 1);
  EXPECT_EQ(choose(kNew, "amx-bf16"), -MOE_UNSUPPORTED_CPU);
}

TEST_F(ChooseISATest, keepsItsChoice) {
  compile("generic,avx2");
  auto isa = lookUp<int32_t()>("f.isa");
  setenv("MOE_ISA", "generic", /*overwrite=*/1);
  EXPECT_EQ(isa(), 1);
  setenv("MOE_ISA", "nothing", 1);
  EXPECT_EQ(isa(), 1);
  unsetenv("MOE_ISA");
  EXPECT_EQ(isa(), 1);
}

TEST_F(ChooseISATest, keepsItsError) {
  compile("generic");
  auto isa = lookUp<int32_t()>("f.isa");
  setenv("MOE_ISA", "avx2", /*overwrite=*/1);
  EXPECT_EQ(isa(), -MOE_UNKNOWN_ISA);
  unsetenv("MOE_ISA");
  EXPECT_EQ(isa(), -MOE_UNKNOWN_ISA);
}

} // namespace
