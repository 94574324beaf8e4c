//===- moe-compile.cpp - Compiles a layer ahead of time ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
///   moe-compile layer.mlir -o layer.so        and layer.h, for C programs
///
/// Everything is made in memory first: an error leaves no file behind.
///
//===----------------------------------------------------------------------===//

#include "Destination.h"

#include "Common/CompileFlags.h"
#include "Common/Registration.h"
#include "Common/Version.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"
#include "moe/Target/CHeader.h"
#include "moe/Target/CodeGen.h"
#include "moe/Target/CompileInParts.h"
#include "moe/Target/LayerFile.h"
#include "moe/Target/Linker.h"
#include "moe/Target/Lowering.h"
#include "moe/Target/PackLayer.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/WithColor.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Host.h"

using namespace mlir;
using namespace mlir::moe;
namespace cl = llvm::cl;

//===----------------------------------------------------------------------===//
// Options
//===----------------------------------------------------------------------===//

namespace {

enum class TargetKind { CPU, NVPTX };

struct Options {
  cl::OptionCategory category{"moe-compile options"};
  cl::opt<std::string> input{cl::Positional, cl::Required,
                             cl::desc("FILE.mlir"), cl::cat(category)};
  cl::opt<std::string> output{
      "o", cl::value_desc("FILE"), cl::cat(category),
      cl::desc(
          "Output; its suffix tells what to emit (.so, .o, .s, .ll, "
          ".mlir, .h; for GPUs .ptx, .cubin). A header of the same name is "
          "written beside .so, .o and .s")};
  cl::opt<Emit> emit{
      "emit", cl::cat(category), cl::desc("What to emit, whatever the suffix:"),
      cl::values(
          clEnumValN(Emit::SharedObject, "so", "shared object"),
          clEnumValN(Emit::Object, "obj", "object file"),
          clEnumValN(Emit::Assembly, "asm", "assembly"),
          clEnumValN(Emit::LLVMIR, "llvm", "LLVM IR, optimized"),
          clEnumValN(Emit::MLIR, "mlir", "the module in the LLVM dialect"),
          clEnumValN(Emit::Header, "header", "the C header alone"),
          clEnumValN(Emit::PTX, "ptx", "the kernels of a GPU, as text"),
          clEnumValN(Emit::Cubin, "cubin",
                     "the kernels of a GPU, assembled (needs ptxas)"))};
  cl::opt<std::string> triple{
      "target-triple", cl::value_desc("TRIPLE"), cl::cat(category),
      cl::desc("Machine to compile for (default: this one)")};
  cl::opt<std::string> linker{
      "linker", cl::value_desc("PROGRAM"), cl::cat(category),
      cl::desc("Linker or compiler driver for shared objects (default: the "
               "first of ld.lld, ld, cc, clang, gcc)")};
  cl::opt<TargetKind> target{
      "target", cl::cat(category), cl::init(TargetKind::CPU),
      cl::desc("What runs the layer:"),
      cl::values(clEnumValN(TargetKind::CPU, "cpu", "a CPU (default)"),
                 clEnumValN(TargetKind::NVPTX, "nvptx",
                            "an NVIDIA GPU; functions take device memory and "
                            "a stream"))};
  cl::list<std::string> chips{
      "chip", cl::value_desc("CHIP,..."), cl::CommaSeparated, cl::cat(category),
      cl::desc("GPUs to compile for, with --target=nvptx: sm_80 (default), "
               "sm_86, sm_89, sm_90, sm_90a, sm_120; of several, a call takes "
               "what is best for its device")};
  cl::list<std::string> stats{
      "stats",
      cl::value_desc("NAME,..."),
      cl::ValueOptional,
      cl::CommaSeparated,
      cl::cat(category),
      cl::desc("The functions also take a nullable moe_stats *, and tell where "
               "the tokens went: tokens, choices, contribution, ids (default: "
               "all of these)")};
  CompileFlags compile{category};
};

constexpr llvm::StringLiteral kOverview =
    R"(ahead-of-time compiler of MoE layers

Compiles a function on tensors to machine code with a C interface: weights are
arguments, nothing of MLIR, LLVM or Python is needed to run it.

  moe-compile layer.mlir -o layer.so             and layer.h, which documents it
  moe-compile layer.mlir -o layer.o --target-cpu=x86-64-v3
  moe-compile layer.mlir --emit=llvm             to standard output
  moe-compile layer.mlir --pack-weights -o layer.so   and what packs weights
  moe-compile layer.mlir --target=nvptx --chip=sm_90 -o layer.so
)";

} // namespace

/// An error that diagnostics have told already: it has no text.
static llvm::Error makeReportedError() { return llvm::createStringError(""); }

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

namespace {

class Compilation {
public:
  Compilation(const Options &options, const Destination &destination)
      : options(options), destination(destination),
        stages(options.compile.dumpStages) {}

  /// What fails before any work is done: target and linker.
  llvm::Error prepare();
  /// Lowers `module` and makes the bytes of the output.
  llvm::Expected<SmallVector<char, 0>> compile(ModuleOp module);
  /// The header, after `compile`.
  std::string makeHeader() const;

private:
  llvm::Error prepareGPU();
  /// The function that packs the weights of `entry`, if there is to be one;
  /// else empty.
  llvm::Expected<std::string> pack(ModuleOp module, StringRef entry);
  SmallVector<std::string> getExported() const;
  llvm::Expected<SmallVector<char, 0>> generate(llvm::Module &module);
  llvm::Expected<SmallVector<char, 0>> makeSharedObject(llvm::Module &module);

  const Options &options;
  const Destination &destination;
  StageDumper stages;
  std::unique_ptr<llvm::TargetMachine> target;
  /// Without a chip for the CPU.
  GPUCodeOptions gpu;
  LinkOptions link;
  /// Empty for the one cpu of `target`.
  SmallVector<ISA> versions;
  EntrySignature signature;
  /// Of what packs the layer's weights, if anything does.
  std::optional<EntrySignature> packing;
  std::vector<EntryStatistic> statistics;
};

} // namespace

/// The statistics that --stats names.
static llvm::Expected<SmallVector<RoutingStatistic, 4>>
parseStatistics(const Options &options) {
  SmallVector<RoutingStatistic, 4> statistics;
  for (const std::string &name : options.stats) {
    if (name.empty()) {
      llvm::append_range(statistics, kAllStatistics);
      continue;
    }
    std::optional<RoutingStatistic> statistic = parseStatistic(name);
    if (!statistic)
      return llvm::createStringError(
          "--stats: there is no '" + name +
          "'; there are tokens, choices, contribution and ids");
    statistics.push_back(*statistic);
  }
  return statistics;
}

static bool needsAMX(const ISA &isa) { return isa.needs & kHasAMXBF16; }

static bool isForGPU(const Options &options) {
  return options.target == TargetKind::NVPTX;
}

/// What is wrong with the flags of one target where the other is asked for.
static llvm::Error checkTarget(const Options &options, Emit emit) {
  if (options.compile.packWeights && options.stats.getNumOccurrences())
    return llvm::createStringError(
        "--stats and --pack-weights exclude each other: packing fuses "
        "moe.dispatch, where statistics are gathered");
  if (!isForGPU(options)) {
    if (options.chips.getNumOccurrences())
      return llvm::createStringError("--chip=" + options.chips.front() +
                                     " names a GPU; add --target=nvptx");
    if (emit == Emit::PTX || emit == Emit::Cubin)
      return llvm::createStringError("PTX and cubins are code for GPUs; add "
                                     "--target=nvptx and --chip");
    return llvm::Error::success();
  }
  if (!options.compile.cpu.empty())
    return llvm::createStringError(
        "--target-cpu=" + options.compile.cpu +
        " names a CPU, but --target=nvptx compiles for a GPU; name it with "
        "--chip");
  if (!options.compile.isa.empty())
    return llvm::createStringError("--isa is for CPUs; --target=nvptx compiles "
                                   "for a GPU: name it with --chip");
  if (options.compile.lowering.getNumOccurrences())
    return llvm::createStringError("--lowering is for CPUs; --target=nvptx has "
                                   "one way");
  if (options.compile.relaxedRounding)
    return llvm::createStringError("--relaxed-rounding is for CPUs; on GPUs "
                                   "all rounds where the layer says");
  if (options.compile.packWeights)
    return llvm::createStringError(
        "--pack-weights is for CPUs; kernels of GPUs read weights as "
        "checkpoints have them");
  if (options.stats.getNumOccurrences())
    return llvm::createStringError("--stats is for CPUs: statistics are not "
                                   "gathered on GPUs");
  if (!options.triple.empty() && emit == Emit::SharedObject)
    return llvm::createStringError(
        "shared objects for GPUs are made for hosts like this machine; with "
        "--target-triple emit an object file, and link it with "
        "libMoECUDARuntime.a there");
  return llvm::Error::success();
}

llvm::Error Compilation::prepareGPU() {
  gpu.chips.assign(options.chips.begin(), options.chips.end());
  if (gpu.chips.empty())
    gpu.chips = {"sm_80"};
  gpu.optLevel = options.compile.optLevel;
  for (auto [i, chip] : llvm::enumerate(gpu.chips)) {
    if (llvm::Error error = checkChip(chip))
      return error;
    if (llvm::is_contained(ArrayRef(gpu.chips).take_front(i), chip))
      return llvm::createStringError("--chip names " + chip + " twice");
  }
  bool isOneImage =
      destination.emit == Emit::PTX || destination.emit == Emit::Cubin;
  if (isOneImage && gpu.chips.size() > 1)
    return llvm::createStringError(
        "PTX and cubins are for one GPU; name one with --chip, or make a "
        "shared object for several");
  if (destination.emit == Emit::PTX)
    return llvm::Error::success();
  auto ptxas = findPTXAssembler();
  if (!ptxas)
    return ptxas.takeError();
  gpu.ptxas = *ptxas;
  link.archive = getCUDARuntimeArchive();
  return llvm::Error::success();
}

/// The instruction sets to choose from when the layer is called; none for code
/// for one cpu.
static llvm::Expected<SmallVector<ISA>> getVersions(const Options &options) {
  if (isForGPU(options))
    return SmallVector<ISA>();
  llvm::Triple triple(options.triple.empty()
                          ? llvm::sys::getProcessTriple()
                          : llvm::Triple::normalize(options.triple));
  bool isX86 = triple.getArch() == llvm::Triple::x86_64;
  if (!options.compile.isa.empty()) {
    if (!isX86)
      return llvm::createStringError("--isa is for x86_64, not " +
                                     triple.getArchName() +
                                     "; name a cpu with --target-cpu");
    auto isas = parseISAs(options.compile.isa);
    if (isas && !triple.isOSLinux() && llvm::any_of(*isas, needsAMX))
      return llvm::createStringError(
          "--isa: code for amx-bf16 asks Linux for its registers; " +
          triple.str() + " is another system");
    return isas;
  }
  if (isX86 && options.compile.cpu.empty() &&
      options.compile.lowering == LoweringKind::CPU) {
    SmallVector<ISA> isas = getDefaultISAs();
    if (!triple.isOSLinux() || options.compile.optLevel == 0)
      llvm::erase_if(isas, needsAMX);
    return isas;
  }
  return SmallVector<ISA>();
}

static std::string getCPU(const Options &options, bool hasVersions) {
  if (isForGPU(options)) // The host's part: any of its kind.
    return "generic";
  if (!options.compile.cpu.empty())
    return options.compile.cpu;
  // What all versions share runs on all machines.
  if (hasVersions)
    return "x86-64";
  return options.triple.empty() ? "native" : "generic";
}

llvm::Error Compilation::prepare() {
  if (llvm::Error error = options.compile.check())
    return error;
  if (llvm::Error error = checkTarget(options, destination.emit))
    return error;
  if (isForGPU(options))
    if (llvm::Error error = prepareGPU())
      return error;
  auto chosen = getVersions(options);
  if (!chosen)
    return chosen.takeError();
  versions = std::move(*chosen);
  auto machine =
      createTargetMachine({options.triple, getCPU(options, !versions.empty()),
                           options.compile.optLevel});
  if (!machine)
    return machine.takeError();
  target = std::move(*machine);
  if (destination.emit != Emit::SharedObject)
    return llvm::Error::success();
  auto linker = findLinker(options.linker, getLinkerFolders());
  if (!linker)
    return linker.takeError();
  link.linker = *linker;
  link.soname = llvm::sys::path::filename(destination.path);
  link.isNative = options.triple.empty();
  return llvm::Error::success();
}

/// `print`ed text as bytes.
static SmallVector<char, 0>
toBytes(llvm::function_ref<void(llvm::raw_ostream &)> print) {
  SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream os(bytes);
  print(os);
  return bytes;
}

llvm::Expected<SmallVector<char, 0>>
Compilation::makeSharedObject(llvm::Module &module) {
  auto objects = compileInParts(module, *target, stages);
  if (!objects)
    return objects.takeError();
  SmallVector<ArrayRef<char>> bytes(objects->begin(), objects->end());
  return linkSharedObject(bytes, link);
}

llvm::Expected<SmallVector<char, 0>>
Compilation::generate(llvm::Module &module) {
  if (destination.emit == Emit::SharedObject)
    return makeSharedObject(module);
  auto print = [&](llvm::raw_ostream &os) { os << module; };
  if (llvm::Error error = stages.dump("llvm", "ll", print))
    return error;
  optimize(module, *target);
  if (llvm::Error error = stages.dump("optimized", "ll", print))
    return error;
  if (destination.emit == Emit::LLVMIR)
    return toBytes(print);
  auto kind = destination.emit == Emit::Assembly
                  ? llvm::CodeGenFileType::AssemblyFile
                  : llvm::CodeGenFileType::ObjectFile;
  return emitMachineCode(module, *target, kind);
}

llvm::Expected<std::string> Compilation::pack(ModuleOp module,
                                              StringRef entry) {
  FailureOr<std::optional<Packing>> found =
      takePacking(module, entry, options.compile.packWeights);
  if (failed(found))
    return makeReportedError();
  if (!*found)
    return std::string();
  if (isForGPU(options))
    return llvm::createStringError("the weights of @" + entry +
                                   " are packed, which is for CPUs; kernels of "
                                   "GPUs read them as checkpoints have them");
  packing.emplace();
  return (*found)->function;
}

SmallVector<std::string> Compilation::getExported() const {
  SmallVector<std::string> exported;
  auto add = [&](const EntrySignature &entry) {
    for (StringRef suffix : {"", "_packed", "_workspace", "_workspace_packed"})
      exported.push_back(entry.cName + suffix.str());
  };
  add(signature);
  if (isForGPU(options))
    exported.push_back(signature.cName + "_error");
  if (!packing)
    return exported;
  add(*packing);
  for (StringRef suffix : {"_expert", "_expert_packed"})
    exported.push_back(packing->cName + suffix.str());
  return exported;
}

llvm::Expected<SmallVector<char, 0>> Compilation::compile(ModuleOp module) {
  FailureOr<func::FuncOp> function = findEntry(module, options.compile.entry);
  if (failed(function))
    return makeReportedError();
  EntryOptions entry;
  entry.entry = function->getName().str();
  auto companion = pack(module, entry.entry);
  if (!companion)
    return companion.takeError();
  entry.companion = std::move(*companion);
  entry.gpu = gpu;
  entry.stopsAtKernels =
      destination.emit == Emit::PTX || destination.emit == Emit::Cubin;
  if (options.compile.lowering == LoweringKind::CPU)
    entry.isa = getVectorISA(*target);
  entry.relaxedRounding = options.compile.relaxedRounding;
  entry.versions = versions;
  auto chosen = parseStatistics(options);
  if (!chosen)
    return chosen.takeError();
  entry.statistics = std::move(*chosen);
  FailureOr<EntrySignature> lowered = lowerToLLVMDialect(
      module, entry, stages, &statistics, packing ? &*packing : nullptr);
  if (failed(lowered))
    return makeReportedError();
  signature = std::move(*lowered);
  if (destination.emit == Emit::PTX)
    return getPTX(module);
  if (destination.emit == Emit::Cubin)
    return getCubin(module);
  if (destination.emit == Emit::MLIR)
    return toBytes([&](llvm::raw_ostream &os) { os << module << '\n'; });
  if (destination.emit == Emit::Header)
    return toBytes([&](llvm::raw_ostream &os) { os << makeHeader(); });

  llvm::LLVMContext context;
  auto llvmModule = translateToLLVMIR(module, *target, getExported(), context);
  if (!llvmModule)
    return llvmModule.takeError();
  return generate(**llvmModule);
}

std::string Compilation::makeHeader() const {
  CHeaderInfo info;
  info.source = llvm::sys::path::filename(options.input);
  info.target =
      target->getTargetTriple().str() + ", " + target->getTargetCPU().str();
  for (const ISA &isa : versions)
    info.isas.push_back(isa.name.str());
  info.statistics = statistics;
  info.chip = llvm::join(gpu.chips, ", ");
  info.packing = packing;
  std::string text;
  llvm::raw_string_ostream os(text);
  writeCHeader(signature, info, os);
  return text;
}

static llvm::Error run(const Options &options) {
  std::optional<Emit> emit;
  if (options.emit.getNumOccurrences())
    emit = options.emit;
  auto destination = chooseDestination(options.output, emit);
  if (!destination)
    return destination.takeError();
  Compilation compilation(options, *destination);
  if (llvm::Error error = compilation.prepare())
    return error;

  DialectRegistry registry;
  registerToolDialects(registry);
  // A few functions, one of which is most of the layer.
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  // An error about a function is not followed by all of it.
  context.printOpOnDiagnostic(false);
  llvm::SourceMgr sourceMgr;
  SourceMgrDiagnosticHandler diagnostics(sourceMgr, &context);
  if (llvm::Error error = options.compile.remarks.enable(context))
    return error;
  OwningOpRef<ModuleOp> module =
      parseLayerFile(options.input, sourceMgr, &context);
  if (!module)
    return makeReportedError();
  auto bytes = compilation.compile(*module);
  if (!bytes)
    return bytes.takeError();
  return write(*destination, *bytes, compilation.makeHeader());
}

int main(int argc, char **argv) {
  llvm::InitLLVM initLLVM(argc, argv);
  addVersionPrinter();
  removeForeignOption("stats");
  Options options;
  cl::HideUnrelatedOptions(options.category);
  cl::ParseCommandLineOptions(argc, argv, kOverview);
  if (llvm::Error error = run(options)) {
    std::string text = llvm::toString(std::move(error));
    if (!text.empty())
      llvm::WithColor::error(llvm::errs(), "moe-compile") << text << '\n';
    return 1;
  }
  return 0;
}
