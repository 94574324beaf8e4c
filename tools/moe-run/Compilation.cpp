//===- Compilation.cpp - From a file to functions to call -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Compilation.h"

#include "Common/Registration.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/PackWeights.h"
#include "moe/Target/LayerFile.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mlir::moe;

static DialectRegistry makeRegistry() {
  DialectRegistry registry;
  registerToolDialects(registry);
  return registry;
}

/// An error that diagnostics have told already.
static llvm::Error makeReportedError() { return llvm::createStringError(""); }

Compilation::Compilation(const CompilationOptions &options)
    : options(options),
      // One function: threads would only cost memory.
      context(makeRegistry(), MLIRContext::Threading::DISABLED),
      diagnostics(
          std::make_unique<SourceMgrDiagnosticHandler>(sourceMgr, &context)) {
  // An error about a function is not followed by all of it.
  context.printOpOnDiagnostic(false);
}

Compilation::~Compilation() = default;

static FailureOr<EntrySignature> readSignature(ModuleOp module,
                                               StringRef name) {
  return readEntrySignature(module.lookupSymbol<func::FuncOp>(name));
}

/// Sources that are called as another argument of the layer get the name of
/// their function before theirs.
static void renameSources(const EntrySignature &signature,
                          const Packing &packing, EntrySignature &sources) {
  llvm::StringSet<> taken;
  for (auto [i, argument] : llvm::enumerate(signature.arguments))
    if (!llvm::is_contained(packing.packedArguments, i))
      taken.insert(argument.name);
  for (EntryTensor &source : sources.arguments)
    while (!taken.insert(source.name).second)
      source.name = packing.function + "." + source.name;
}

/// The signature of a layer with what its packing takes in the place of what
/// that returns. The text has packed weights: how the layer was is not known.
static EntrySignature unpack(const EntrySignature &signature,
                             const Packing &packing,
                             const EntrySignature &sources) {
  EntrySignature unpacked = signature;
  unpacked.arguments.clear();
  for (auto [i, argument] : llvm::enumerate(signature.arguments))
    if (!llvm::is_contained(packing.packedArguments, i))
      unpacked.arguments.push_back(argument);
  llvm::append_range(unpacked.arguments, sources.arguments);
  return unpacked;
}

llvm::Error Compilation::parse(const RemarkFlags &remarks) {
  if (llvm::Error error = remarks.enable(context))
    return error;
  module = parseLayerFile(options.file, sourceMgr, &context);
  if (!module)
    return makeReportedError();
  FailureOr<func::FuncOp> entry = findEntry(*module, options.entry);
  if (failed(entry))
    return makeReportedError();
  if (options.replaysIds)
    if (llvm::Error error = replay(*entry))
      return error;
  std::string name = entry->getName().str();
  if (llvm::Error error = pack(name))
    return error;
  FailureOr<EntrySignature> read = readSignature(*module, name);
  if (failed(read))
    return makeReportedError();
  signature = std::move(*read);
  if (!packing)
    return llvm::Error::success();
  FailureOr<EntrySignature> own = readSignature(*module, packing->function);
  if (failed(own))
    return makeReportedError();
  sources = std::move(*own);
  if (!original)
    renameSources(signature, *packing, sources);
  FailureOr<EntrySignature> before = unpack(signature, *packing, sources);
  if (original)
    before = readSignature(*original, name);
  if (failed(before))
    return makeReportedError();
  unpacked = std::move(*before);
  return llvm::Error::success();
}

llvm::Error Compilation::pack(StringRef name) {
  bool isPackedText = module->lookupSymbol(name)->hasAttr(kPackAttr);
  if (options.packsWeights && !isPackedText)
    original = module->clone();
  auto taken = takePacking(*module, name, options.packsWeights);
  if (failed(taken))
    return makeReportedError();
  packing = std::move(*taken);
  return llvm::Error::success();
}

llvm::Error Compilation::compilePacking(OwningOpRef<ModuleOp> module,
                                        CompiledLayer &compiled) {
  StageDumper noStages;
  EntryOptions entry;
  entry.entry = packing->function;
  entry.exportShapes = true;
  auto engine = compile(*module, entry, options.codeGen, noStages);
  if (!engine)
    return engine.takeError();
  compiled.packing = std::move(*engine);
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<Engine>>
Compilation::compile(ModuleOp module, EntryOptions entry,
                     const CodeGenOptions &codeGen, StageDumper &stages) {
  if (codeGen.lowering == LoweringKind::CPU && entry.gpu.chips.empty()) {
    auto target = createTargetMachine(codeGen);
    if (!target)
      return target.takeError();
    entry.isa = getVectorISA(**target);
    entry.versions = options.versions;
  }
  FailureOr<EntrySignature> lowered = lowerToLLVMDialect(module, entry, stages);
  if (failed(lowered))
    return makeReportedError();
  if (entry.versions.empty())
    return Engine::create(module, *lowered, codeGen, &stages);
  // Each version brings its own cpu.
  CodeGenOptions shared = codeGen;
  shared.cpu = "x86-64";
  return Engine::create(module, *lowered, shared, &stages);
}

LogicalResult Compilation::inlineCalls() {
  PassManager inliner(&context, ModuleOp::getOperationName());
  inliner.addPass(createInlinerPass());
  return inliner.run(*module);
}

llvm::Error Compilation::replay(func::FuncOp entry) {
  if (failed(inlineCalls()))
    return makeReportedError();
  replayed = replayIds(entry);
  if (!replayed.empty())
    return llvm::Error::success();
  return llvm::createStringError(
      "--replay-ids: there are no ids of @" + entry.getName() +
      " to replace: it has no moe.dispatch at its top level, or its ids are an "
      "argument; --remarks-filter-missed=moe-replay-ids says why");
}

llvm::Error Compilation::instrument(CompiledLayer &compiled) {
  if (options.statistics.empty())
    return llvm::Error::success();
  if (failed(inlineCalls()))
    return makeReportedError();
  auto entry = module->lookupSymbol<func::FuncOp>(signature.name);
  compiled.statistics = appendStatistics(entry, options.statistics);
  if (!compiled.statistics.empty())
    return llvm::Error::success();
  return llvm::createStringError(
      "there are no statistics of @" + signature.name +
      ": it has no moe.dispatch at its top level, or one that cannot be "
      "instrumented; --remarks-filter-missed=moe-instrument says why");
}

/// What is said of the layer is not said again of its variants.
llvm::Error Compilation::compileExtras(OwningOpRef<ModuleOp> check,
                                       OwningOpRef<ModuleOp> probe,
                                       CompiledLayer &compiled) {
  context.setRemarkEngine(nullptr);
  ScopedDiagnosticHandler errorsOnly(&context, [](Diagnostic &diagnostic) {
    return success(diagnostic.getSeverity() != DiagnosticSeverity::Error);
  });
  StageDumper noStages;
  EntryOptions entry;
  entry.entry = signature.name;
  entry.exportShapes = true;
  if (probe) {
    FailureOr<WorkProbe> built = WorkProbe::build(*probe, signature.name);
    if (failed(built))
      return makeReportedError();
    compiled.workProbe = std::move(*built);
    CodeGenOptions codeGen = options.codeGen;
    codeGen.lowering = LoweringKind::General;
    auto engine = compile(*probe, entry, codeGen, noStages);
    if (!engine)
      return engine.takeError();
    compiled.probe = std::move(*engine);
  }
  if (check) {
    entry.lowering.plainLoops = true;
    CodeGenOptions codeGen = options.codeGen;
    codeGen.optLevel = 1;
    codeGen.lowering = LoweringKind::General;
    auto engine = compile(*check, entry, codeGen, noStages);
    if (!engine)
      return engine.takeError();
    compiled.check = std::move(*engine);
  }
  return llvm::Error::success();
}

llvm::Expected<CompiledLayer> Compilation::compile(bool packs) {
  OwningOpRef<ModuleOp> check, probe;
  ModuleOp checked = packs && original ? *original : *module;
  if (options.makeCheck)
    check = checked.clone();
  if (options.makeWorkProbe)
    probe = checked.clone();

  CompiledLayer compiled;
  if (packs)
    if (llvm::Error error = compilePacking(module->clone(), compiled))
      return std::move(error);
  if (llvm::Error error = instrument(compiled))
    return std::move(error);
  StageDumper stages(options.dumpStages);
  EntryOptions entry;
  entry.entry = signature.name;
  entry.exportShapes = true;
  entry.lowering.runtimeVerification = options.runtimeVerification;
  entry.relaxedRounding = options.relaxedRounding;
  // The driver assembles what it gets as text.
  if (!options.chip.empty())
    entry.gpu.chips = {options.chip};
  entry.gpu.optLevel = options.codeGen.optLevel;
  auto engine = compile(*module, entry, options.codeGen, stages);
  if (!engine)
    return engine.takeError();
  compiled.layer = std::move(*engine);
  if (llvm::Error error =
          compileExtras(std::move(check), std::move(probe), compiled))
    return std::move(error);
  return compiled;
}
