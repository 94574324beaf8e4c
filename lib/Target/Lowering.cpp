//===- Lowering.cpp - From a layer to the LLVM dialect ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/Lowering.h"

#include "Entry/StatsEntry.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVM/NVVM/Target.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Support/OutputFile.h"
#include "moe/Target/MergeVersions.h"
#include "moe/Target/Passes.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// StageDumper
//===----------------------------------------------------------------------===//

llvm::Error
StageDumper::dump(StringRef name, StringRef extension,
                  llvm::function_ref<void(llvm::raw_ostream &)> print) {
  if (!isEnabled())
    return llvm::Error::success();
  if (std::error_code error = llvm::sys::fs::create_directories(directory))
    return llvm::createStringError(error, "cannot make the folder '" +
                                              directory +
                                              "': " + error.message());
  SmallString<128> path(directory);
  llvm::sys::path::append(
      path, llvm::formatv("{0,0+2}-{1}.{2}", numDumped++, name, extension));
  return writeFileAtomically(path, [&](llvm::raw_ostream &os) {
    print(os);
    return llvm::Error::success();
  });
}

llvm::Error StageDumper::dump(StringRef name, Operation *op) {
  return dump(name, "mlir", [&](llvm::raw_ostream &os) {
    op->print(os);
    os << '\n';
  });
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

namespace {

/// Runs one stage after the other on a module.
class StagedLowering {
public:
  StagedLowering(ModuleOp module, StageDumper &stages)
      : module(module), stages(stages) {}

  LogicalResult dump(StringRef name) {
    if (llvm::Error error = stages.dump(name, module))
      return emitError(module.getLoc()) << llvm::toString(std::move(error));
    return success();
  }

  /// Runs what `build` adds to a pass manager, verifies and dumps the result.
  LogicalResult run(StringRef name,
                    llvm::function_ref<void(OpPassManager &)> build) {
    PassManager pm(module.getContext(), ModuleOp::getOperationName());
    // Once is enough: after each pass it took an eighth of a compilation.
    pm.enableVerifier(false);
    build(pm);
    if (failed(pm.run(module)) || failed(verify(module)))
      return failure();
    return dump(name);
  }

private:
  ModuleOp module;
  StageDumper &stages;
};

} // namespace

static FailureOr<EntrySignature> readSignature(ModuleOp module,
                                               StringRef name) {
  FailureOr<func::FuncOp> entry = findEntry(module, name);
  if (failed(entry))
    return failure();
  entry->setPublic(); // Nobody calls it, but it stays.
  return readEntrySignature(*entry);
}

static func::FuncOp lookUp(ModuleOp module, const Twine &name) {
  return module.lookupSymbol<func::FuncOp>(name.str());
}

/// What the variant of the entry that moe-prepare-entry made fills besides the
/// results; nothing without --stats.
static std::vector<EntryStatistic>
readStatistics(ModuleOp module, const EntrySignature &signature) {
  std::vector<EntryStatistic> statistics;
  func::FuncOp entry = lookUp(module, signature.name);
  auto attr = entry->getAttrOfType<DictionaryAttr>(kStatsAttr);
  if (!attr)
    return statistics;
  // The results of the variant: those of the entry, and the statistics.
  EntrySignature variant = signature;
  func::FuncOp function = lookUp(module, signature.name + ".stats");
  for (Type type :
       function.getArgumentTypes().drop_front(signature.getNumTensors())) {
    EntryTensor &tensor = variant.results.emplace_back();
    tensor.shape.assign(cast<MemRefType>(type).getShape());
  }
  nameSizes(lookUp(module, signature.name + ".stats.shapes"), variant);
  FailureOr<SmallVector<AppendedStatistic>> appended =
      readAppended(entry, attr);
  for (auto [i, statistic] : llvm::enumerate(*appended)) {
    const EntryTensor &tensor = variant.results[signature.results.size() + i];
    EntryStatistic &added = statistics.emplace_back();
    static_cast<AppendedStatistic &>(added) = statistic;
    added.sizeNames.assign(tensor.sizeNames.begin(), tensor.sizeNames.end());
  }
  return statistics;
}

/// moe-prepare-entry as the options say.
static std::unique_ptr<Pass> createPrepareEntry(const EntryOptions &options,
                                                StringRef name) {
  MoEPrepareEntryOptions prepare;
  prepare.entryName = name.str();
  prepare.companionName = options.companion;
  for (RoutingStatistic statistic : options.statistics)
    prepare.statistics.push_back(getName(statistic).str());
  return createMoEPrepareEntry(prepare);
}

static void placeBuffers(OpPassManager &pm) {
  pm.addPass(createMoEAllocationsToWorkspace());
  pm.addPass(createCSEPass());
  pm.addPass(createCanonicalizerPass());
}

/// From tensors to buffers in the workspace, with the instructions of `isa`
/// (empty: the general lowering). `suffix` tells the stages' dumps apart.
static LogicalResult lowerToBuffers(ModuleOp module, StringRef isa,
                                    const EntryOptions &options,
                                    StageDumper &stages, StringRef suffix) {
  auto bufferize = [&](OpPassManager &pm) {
    if (isa.empty())
      return buildGeneralBufferPipeline(pm, options.lowering);
    CPULoweringOptions cpu;
    cpu.isa = isa.str();
    cpu.relaxedRounding = options.relaxedRounding;
    cpu.runtimeVerification = options.lowering.runtimeVerification;
    buildCPUBufferPipeline(pm, cpu);
  };
  StagedLowering lowering(module, stages);
  return success(
      succeeded(lowering.run(("buffers" + suffix).str(), bufferize)) &&
      succeeded(lowering.run(("workspace" + suffix).str(), placeBuffers)));
}

/// The same for all versions that the options ask for; what their functions are
/// to be compiled for.
static FailureOr<VersionTargets> lowerToBuffers(ModuleOp module, StringRef name,
                                                const EntryOptions &options,
                                                StageDumper &stages) {
  if (options.versions.empty()) {
    if (failed(lowerToBuffers(module, options.isa, options, stages, "")))
      return failure();
    return VersionTargets();
  }
  SmallVector<Version> versions;
  for (const ISA &isa : options.versions) {
    versions.push_back({isa.name.str(), isa, module.clone()});
    if (failed(lowerToBuffers(*versions.back().module, isa.name, options,
                              stages, ("-" + isa.name).str())))
      return failure();
  }
  SmallVector<StringRef> names = {name};
  if (!options.companion.empty())
    names.push_back(options.companion);
  return mergeVersions(module, names, versions);
}

/// From tensors to launches, and kernels in machine code, for one GPU.
static LogicalResult lowerToKernels(ModuleOp module, StringRef chip,
                                    const EntryOptions &options,
                                    StageDumper &stages, StringRef suffix) {
  auto bufferize = [&](OpPassManager &pm) {
    GPULoweringOptions gpu;
    gpu.chip = chip.str();
    buildGPUBufferPipeline(pm, gpu);
  };
  StagedLowering lowering(module, stages);
  return success(
      succeeded(lowering.run(("buffers" + suffix).str(), bufferize)) &&
      succeeded(lowering.run(("workspace" + suffix).str(), placeBuffers)) &&
      succeeded(
          lowering.run(("kernels" + suffix).str(), buildGPUKernelPipeline)) &&
      succeeded(compileKernels(module, chip, options.gpu)));
}

/// The same for all GPUs of the options.
static LogicalResult lowerToKernels(ModuleOp module, StringRef name,
                                    const EntryOptions &options,
                                    StageDumper &stages) {
  ArrayRef<std::string> chips = options.gpu.chips;
  if (chips.size() == 1)
    return lowerToKernels(module, chips.front(), options, stages, "");
  SmallVector<Version> versions;
  for (StringRef chip : chips) {
    versions.push_back({chip.str(), std::nullopt, module.clone()});
    if (failed(lowerToKernels(*versions.back().module, chip, options, stages,
                              ("-" + chip).str())))
      return failure();
  }
  return success(succeeded(mergeVersions(module, name, versions)));
}

/// What moe-prepare-entry found out about an entry.
static void readPrepared(ModuleOp module, EntrySignature &signature) {
  func::FuncOp shapes = lookUp(module, signature.name + ".shapes");
  nameSizes(shapes, signature);
  readSizeChecks(shapes, signature);
}

/// Whether `function` is the entry `name`, a version of it, or a part of one.
static bool isPartOf(func::FuncOp function, StringRef name) {
  StringRef symbol = function.getName();
  return symbol.consume_front(name) &&
         (symbol.empty() || symbol.starts_with("."));
}

/// What the memory of calls is: as moe-allocations-to-workspace left it.
/// Without a companion all functions are the entry's.
static void readMemory(ModuleOp module, EntrySignature &signature,
                       EntrySignature *companion) {
  auto allocates = [](func::FuncOp function) {
    return function
        ->walk([](memref::AllocOp) { return WalkResult::interrupt(); })
        .wasInterrupted();
  };
  for (EntrySignature *entry : {&signature, companion})
    if (entry)
      readWorkspace(lookUp(module, entry->name + ".workspace"), *entry);
  for (auto function : module.getOps<func::FuncOp>()) {
    bool isCompanions = companion && isPartOf(function, companion->name);
    EntrySignature &owner = isCompanions ? *companion : signature;
    owner.allocates |= allocates(function);
  }
}

FailureOr<EntrySignature> mlir::moe::lowerToLLVMDialect(
    ModuleOp module, const EntryOptions &options, StageDumper &stages,
    std::vector<EntryStatistic> *statistics, EntrySignature *companion) {
  assert(!options.companion.empty() == bool(companion) &&
         "a companion has a signature");
  FailureOr<EntrySignature> signature = readSignature(module, options.entry);
  if (failed(signature))
    return failure();
  if (companion) {
    FailureOr<EntrySignature> read = readSignature(module, options.companion);
    if (failed(read))
      return failure();
    *companion = std::move(*read);
  }

  StagedLowering lowering(module, stages);
  auto prepare = [&](OpPassManager &pm) {
    // A call hides the sizes of its results.
    pm.addPass(createInlinerPass());
    pm.addPass(createPrepareEntry(options, signature->name));
    // Functions that the entry does not call need not lower.
    pm.addPass(createSymbolDCEPass());
  };
  if (failed(lowering.dump("input")) || failed(lowering.run("entry", prepare)))
    return failure();
  readPrepared(module, *signature);
  if (companion)
    readPrepared(module, *companion);
  if (statistics)
    *statistics = readStatistics(module, *signature);

  auto createCEntry = [&](OpPassManager &pm) {
    pm.addPass(createMoECreateCEntry({options.exportShapes}));
  };
  bool isForGPU = !options.gpu.chips.empty();
  FailureOr<VersionTargets> targets = VersionTargets();
  if (!isForGPU)
    targets = lowerToBuffers(module, signature->name, options, stages);
  else if (failed(lowerToKernels(module, signature->name, options, stages)))
    return failure();
  if (failed(targets))
    return failure();
  readMemory(module, *signature, companion);
  if (isForGPU && options.stopsAtKernels)
    return signature;
  auto callRuntime = [](OpPassManager &pm) {
    pm.addPass(createMoELaunchesToCalls());
  };
  if (isForGPU && failed(lowering.run("launches", callRuntime)))
    return failure();
  if (failed(lowering.run("c-entry", createCEntry)) ||
      failed(lowering.run("llvm-dialect", buildLowerToLLVMPipeline)))
    return failure();
  setTargets(module, *targets);
  return signature;
}

void mlir::moe::registerTargetTranslations(DialectRegistry &registry) {
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerGPUDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
  NVVM::registerNVVMTargetInterfaceExternalModels(registry);
}
