//===- CodeGen.cpp - From the LLVM dialect to machine code ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/CodeGen.h"

#include "CheckedMalloc.h"
#include "FloatConversions.h"
#include "MaskedVectors.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"
#include "llvm/Transforms/IPO/Internalize.h"
#include <mutex>

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Target machine
//===----------------------------------------------------------------------===//

static void initializeTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
    llvm::InitializeAllAsmParsers(); // Of cpuid.
  });
}

/// What to say of a cpu that the target does not know: the nearest names.
static llvm::Error makeUnknownCPUError(StringRef cpu,
                                       const llvm::MCSubtargetInfo &info,
                                       const llvm::Triple &triple) {
  constexpr size_t maxSuggestions = 4;
  std::vector<std::pair<unsigned, StringRef>> names;
  for (const llvm::SubtargetSubTypeKV &known :
       info.getAllProcessorDescriptions())
    names.push_back({cpu.edit_distance(known.Key), known.Key});
  llvm::sort(names);
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "unknown cpu '" << cpu << "' for " << triple.getArchName();
  if (!names.empty()) {
    os << "; the nearest of " << names.size() << " known ones are ";
    names.resize(std::min(names.size(), maxSuggestions));
    llvm::interleaveComma(names, os, [&](const auto &name) {
      os << '\'' << name.second << '\'';
    });
  }
  os << "; 'native' stands for this machine's";
  return llvm::createStringError(text);
}

/// What this machine's operating system lets us use: a virtual machine may mask
/// what the cpu's name promises.
static std::string getNativeFeatures() {
  llvm::SubtargetFeatures features;
  for (const auto &feature : llvm::sys::getHostCPUFeatures())
    features.AddFeature(feature.first(), feature.second);
  return features.getString();
}

static llvm::CodeGenOptLevel getCodeGenLevel(unsigned optLevel) {
  return llvm::CodeGenOpt::getLevel(std::min(optLevel, 3u))
      .value_or(llvm::CodeGenOptLevel::Default);
}

llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
mlir::moe::createTargetMachine(const CodeGenOptions &options) {
  initializeTargets();
  llvm::Triple host(llvm::sys::getProcessTriple());
  llvm::Triple triple(
      options.triple.empty()
          ? host
          : llvm::Triple(llvm::Triple::normalize(options.triple)));
  std::string message;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return llvm::createStringError("unknown target triple '" + triple.str() +
                                   "': " + message);

  std::string cpu = options.cpu, features;
  if (cpu == "native") {
    if (triple.getArch() != host.getArch())
      return llvm::createStringError(
          "the cpu 'native' is this machine's (" + host.getArchName().str() +
          "); name one of " + triple.getArchName().str());
    cpu = llvm::sys::getHostCPUName().str();
    features = getNativeFeatures();
  }
  std::unique_ptr<llvm::MCSubtargetInfo> info(
      target->createMCSubtargetInfo(triple, "", ""));
  if (!info || !info->isCPUStringValid(cpu))
    return makeUnknownCPUError(cpu, *info, triple);

  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      triple, cpu, features, llvm::TargetOptions(), llvm::Reloc::PIC_,
      /*CM=*/std::nullopt, getCodeGenLevel(options.optLevel)));
  if (!machine)
    return llvm::createStringError("this LLVM cannot compile for " +
                                   triple.str());
  if (machine->getPointerSize(/*AS=*/0) != 8)
    return llvm::createStringError(triple.str() +
                                   " does not have 64-bit pointers");
  return machine;
}

std::string mlir::moe::getVectorISA(const llvm::TargetMachine &target) {
  if (!target.getTargetTriple().isX86())
    return "generic";
  const llvm::MCSubtargetInfo &info = *target.getMCSubtargetInfo();
  if (info.checkFeatures("+avx512bf16,+avx512bw,+avx512vl"))
    return "avx512bf16";
  if (info.checkFeatures("+avx512f,+avx512bw,+avx512vl"))
    return "avx512";
  return info.checkFeatures("+avx2,+fma") ? "avx2" : "generic";
}

//===----------------------------------------------------------------------===//
// LLVM IR
//===----------------------------------------------------------------------===//

/// A layer called @exp would be called by itself.
static llvm::Error checkExportedName(StringRef name,
                                     const llvm::Triple &triple) {
  llvm::TargetLibraryInfoImpl library(triple);
  llvm::LibFunc function;
  if (library.getLibFunc(name, function) || name == "main")
    return llvm::createStringError(
        "'" + name + "' is a function of the C library; rename the entry");
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<llvm::Module>>
mlir::moe::translateToLLVMIR(ModuleOp module, llvm::TargetMachine &target,
                             ArrayRef<std::string> exported,
                             llvm::LLVMContext &context) {
  std::unique_ptr<llvm::Module> llvmModule =
      translateModuleToLLVMIR(module, context, "moe");
  if (!llvmModule)
    return llvm::createStringError("the module has no translation to LLVM IR");
  llvmModule->setTargetTriple(target.getTargetTriple());
  llvmModule->setDataLayout(target.createDataLayout());
  for (const std::string &name : exported) {
    if (llvm::Error error = checkExportedName(name, target.getTargetTriple()))
      return error;
    llvm::Function *function = llvmModule->getFunction(name);
    if (!function || function->isDeclaration())
      return llvm::createStringError("the module does not define '" + name +
                                     "'");
  }
  llvm::internalizeModule(*llvmModule, [&](const llvm::GlobalValue &value) {
    return llvm::is_contained(exported, value.getName());
  });
  checkMalloc(*llvmModule);
  maskBfloatsAsIntegers(*llvmModule);
  if (llvm::Error error = addFloatConversions(*llvmModule))
    return error;
  return llvmModule;
}

static llvm::OptimizationLevel getPipelineLevel(llvm::CodeGenOptLevel level) {
  switch (level) {
  case llvm::CodeGenOptLevel::None:
    return llvm::OptimizationLevel::O0;
  case llvm::CodeGenOptLevel::Less:
    return llvm::OptimizationLevel::O1;
  case llvm::CodeGenOptLevel::Default:
    return llvm::OptimizationLevel::O2;
  case llvm::CodeGenOptLevel::Aggressive:
    return llvm::OptimizationLevel::O3;
  }
  llvm_unreachable("not a level");
}

void mlir::moe::optimize(llvm::Module &module, llvm::TargetMachine &target) {
  llvm::PassBuilder builder(&target);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager callGraph;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(callGraph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, callGraph, modules);
  llvm::OptimizationLevel level = getPipelineLevel(target.getOptLevel());
  llvm::ModulePassManager passes =
      level == llvm::OptimizationLevel::O0
          ? builder.buildO0DefaultPipeline(level)
          : builder.buildPerModuleDefaultPipeline(level);
  passes.run(module, modules);
}

//===----------------------------------------------------------------------===//
// Machine code
//===----------------------------------------------------------------------===//

llvm::Expected<SmallVector<char, 0>>
mlir::moe::emitMachineCode(llvm::Module &module, llvm::TargetMachine &target,
                           llvm::CodeGenFileType kind) {
  SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream os(bytes);
  llvm::legacy::PassManager passes;
  if (target.addPassesToEmitFile(passes, os, /*DwoOut=*/nullptr, kind))
    return llvm::createStringError(target.getTargetTriple().str() +
                                   " does not emit this kind of file");
  passes.run(module);
  return bytes;
}
