//===- EmulationTest.cpp - Kernels from text, launched in memory ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulationTest.h"

#include "Common/Registration.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "moe/Target/CodeGen.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include <fstream>
#include <sstream>

using namespace mlir;
using namespace mlir::moe;

struct Kernels::Code {
  std::unique_ptr<llvm::orc::LLJIT> jit;
};

Kernels::~Kernels() = default;

static llvm::Expected<SmallVector<char, 0>> emitObject(ModuleOp module) {
  CodeGenOptions options;
  options.optLevel = 1;
  auto target = createTargetMachine(options);
  if (!target)
    return target.takeError();
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> ir = translateModuleToLLVMIR(module, context);
  if (!ir)
    return llvm::createStringError("no LLVM IR for the module");
  ir->setDataLayout((*target)->createDataLayout());
  ir->setTargetTriple((*target)->getTargetTriple());
  optimize(*ir, **target);
  return emitMachineCode(*ir, **target, llvm::CodeGenFileType::ObjectFile);
}

static llvm::Expected<std::unique_ptr<llvm::orc::LLJIT>>
load(SmallVector<char, 0> object) {
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit;
  // The library is linked to this process.
  auto library = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      (*jit)->getDataLayout().getGlobalPrefix());
  if (!library)
    return library.takeError();
  (*jit)->getMainJITDylib().addGenerator(std::move(*library));
  if (llvm::Error error =
          (*jit)->addObjectFile(std::make_unique<llvm::SmallVectorMemoryBuffer>(
              std::move(object), /*RequiresNullTerminator=*/false)))
    return error;
  return jit;
}

std::unique_ptr<Kernels> Kernels::compile(const std::string &text) {
  // Referring to it keeps the library on the link line.
  EXPECT_NE(moe_emu_error(), nullptr);
  static bool registered = [] {
    registerToolPasses();
    return true;
  }();
  (void)registered;
  DialectRegistry registry;
  registerToolDialects(registry);
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  MLIRContext context(registry);
  for (const char *lowered : {"arith", "cf", "func"})
    context.getOrLoadDialect(lowered);
  std::string diagnostics;
  context.getDiagEngine().registerHandler(
      [&](Diagnostic &diagnostic) { diagnostics += diagnostic.str() + "\n"; });
  auto module = parseSourceString<ModuleOp>(text, ParserConfig(&context));
  PassManager manager(&context);
  bool made = module &&
              succeeded(parsePassPipeline(
                  "gpu.module(convert-scf-to-cf,convert-to-llvm{filter-"
                  "dialects=arith,cf,func},reconcile-unrealized-"
                  "casts),moe-emulate-nvvm",
                  manager)) &&
              succeeded(manager.run(*module));
  EXPECT_TRUE(made) << diagnostics;
  if (!made)
    return nullptr;
  llvm::Expected<SmallVector<char, 0>> object = emitObject(*module);
  if (!object) {
    ADD_FAILURE() << llvm::toString(object.takeError());
    return nullptr;
  }
  auto jit = load(std::move(*object));
  if (!jit) {
    ADD_FAILURE() << llvm::toString(jit.takeError());
    return nullptr;
  }
  auto kernels = std::unique_ptr<Kernels>(new Kernels());
  kernels->code = std::make_unique<Code>();
  kernels->code->jit = std::move(*jit);
  return kernels;
}

const MoEEmuKernel *Kernels::find(const std::string &name) const {
  auto address = code->jit->lookup("moe_emu_kernel_" + name);
  if (!address) {
    ADD_FAILURE() << llvm::toString(address.takeError());
    return nullptr;
  }
  return address->toPtr<const MoEEmuKernel *>();
}

std::string Kernels::launch(const std::string &name, const MoEEmuLaunch &config,
                            std::vector<void *> args) const {
  const MoEEmuKernel *kernel = find(name);
  if (!kernel)
    return "no kernel";
  int32_t status = moe_emu_launch(kernel, &config, args.data());
  std::string error = moe_emu_error();
  EXPECT_EQ(status != 0, !error.empty());
  return error;
}

std::string mlir::moe::readInput(const std::string &name) {
  std::ifstream file(std::string(MOE_TEST_INPUTS "/") + name);
  EXPECT_TRUE(file.good()) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string mlir::moe::mutate(const std::string &text, const std::string &mark,
                              const std::string &part,
                              const std::string &replacement) {
  std::stringstream lines(text), result;
  std::string line;
  unsigned changed = 0;
  while (std::getline(lines, line)) {
    std::string suffix = "// MARK " + mark;
    size_t length = line.size();
    if (length < suffix.size() ||
        line.compare(length - suffix.size(), suffix.size(), suffix)) {
      result << line << "\n";
      continue;
    }
    ++changed;
    if (part.empty())
      continue;
    size_t at = line.find(part);
    EXPECT_NE(at, std::string::npos) << part << " is not in: " << line;
    if (at != std::string::npos)
      line.replace(at, part.size(), replacement);
    result << line << "\n";
  }
  EXPECT_EQ(changed, 1u) << mark;
  return result.str();
}
