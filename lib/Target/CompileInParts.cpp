//===- CompileInParts.cpp - Machine code on several cores -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/CompileInParts.h"

#include "Parts.h"
#include "moe/Target/CodeGen.h"
#include "moe/Target/Lowering.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/ThreadPool.h"
#include "llvm/Support/raw_ostream.h"
#include <optional>

using namespace mlir::moe;

namespace {

/// Keeps what LLVM calls an error: by itself it would end the process.
class ErrorKeeper : public llvm::DiagnosticHandler {
public:
  explicit ErrorKeeper(std::string &text) : text(text) {}

  bool handleDiagnostics(const llvm::DiagnosticInfo &info) override {
    if (info.getSeverity() != llvm::DS_Error)
      return false;
    llvm::raw_string_ostream os(text);
    if (!text.empty())
      os << '\n';
    llvm::DiagnosticPrinterRawOStream printer(os);
    info.print(printer);
    return true;
  }

private:
  std::string &text;
};

/// Compiles the parts of one module.
class PartsCompiler {
public:
  PartsCompiler(llvm::MemoryBufferRef bitcode, llvm::ArrayRef<ModulePart> parts,
                llvm::TargetMachine &target, bool keepsText)
      : bitcode(bitcode), parts(parts), target(target), keepsText(keepsText),
        texts(parts.size()), objects(parts.size()) {}

  void run();
  llvm::Error dump(StageDumper &stages) const;
  llvm::Expected<llvm::SmallVector<ObjectFile>> takeObjects();

private:
  llvm::Expected<ObjectFile> compile(unsigned part);

  llvm::MemoryBufferRef bitcode;
  llvm::ArrayRef<ModulePart> parts;
  llvm::TargetMachine &target;
  /// Whether `texts` is filled: optimized LLVM IR.
  bool keepsText;
  std::vector<std::string> texts;
  std::vector<std::optional<llvm::Expected<ObjectFile>>> objects;
};

} // namespace

/// Target machines are for one thread.
static std::unique_ptr<llvm::TargetMachine>
copy(const llvm::TargetMachine &target) {
  return std::unique_ptr<llvm::TargetMachine>(
      target.getTarget().createTargetMachine(
          target.getTargetTriple(), target.getTargetCPU(),
          target.getTargetFeatureString(), target.Options,
          target.getRelocationModel(), /*CM=*/std::nullopt,
          target.getOptLevel()));
}

llvm::Expected<ObjectFile> PartsCompiler::compile(unsigned part) {
  llvm::LLVMContext context;
  std::string errors;
  context.setDiagnosticHandler(std::make_unique<ErrorKeeper>(errors));
  // Names are for people.
  context.setDiscardValueNames(!keepsText);
  auto module = readPart(bitcode, parts[part], part == 0, context);
  if (!module)
    return module.takeError();
  std::unique_ptr<llvm::TargetMachine> machine = copy(target);
  optimize(**module, *machine);
  if (keepsText)
    llvm::raw_string_ostream(texts[part]) << **module;
  auto object =
      emitMachineCode(**module, *machine, llvm::CodeGenFileType::ObjectFile);
  if (object && !errors.empty())
    return llvm::createStringError(errors);
  return object;
}

void PartsCompiler::run() {
  // The longest first: nobody waits for one that began late.
  auto order = llvm::to_vector(llvm::seq<unsigned>(0, parts.size()));
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return std::make_pair(parts[b].numInstructions, a) <
           std::make_pair(parts[a].numInstructions, b);
  });
  llvm::DefaultThreadPool threads(llvm::optimal_concurrency(parts.size()));
  for (unsigned part : order)
    threads.async([this, part] { objects[part].emplace(compile(part)); });
  threads.wait();
}

llvm::Error PartsCompiler::dump(StageDumper &stages) const {
  for (unsigned part : llvm::seq<unsigned>(0, parts.size())) {
    std::string name = "optimized";
    if (parts.size() > 1)
      name += "-" + std::to_string(part);
    auto print = [&](llvm::raw_ostream &os) { os << texts[part]; };
    if (llvm::Error error = stages.dump(name, "ll", print))
      return error;
  }
  return llvm::Error::success();
}

llvm::Expected<llvm::SmallVector<ObjectFile>> PartsCompiler::takeObjects() {
  llvm::SmallVector<ObjectFile> taken;
  llvm::Error errors = llvm::Error::success();
  for (auto &object : objects)
    if (*object)
      taken.push_back(std::move(**object));
    else
      errors = llvm::joinErrors(std::move(errors), object->takeError());
  if (errors)
    return std::move(errors);
  return taken;
}

llvm::Expected<llvm::SmallVector<ObjectFile>>
mlir::moe::compileInParts(llvm::Module &module, llvm::TargetMachine &target,
                          StageDumper &stages) {
  if (llvm::Error error = stages.dump(
          "llvm", "ll", [&](llvm::raw_ostream &os) { os << module; }))
    return error;
  llvm::SmallVector<ModulePart> parts = cutIntoParts(module);
  llvm::SmallVector<char, 0> bitcode;
  llvm::raw_svector_ostream os(bitcode);
  // Some passes do what they do in the order of uses.
  llvm::WriteBitcodeToFile(module, os, /*ShouldPreserveUseListOrder=*/true);
  PartsCompiler compiler(llvm::MemoryBufferRef(os.str(), "moe"), parts, target,
                         stages.isEnabled());
  compiler.run();
  auto objects = compiler.takeObjects();
  if (!objects)
    return objects;
  if (llvm::Error error = compiler.dump(stages))
    return error;
  return objects;
}
