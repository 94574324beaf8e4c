//===- moe-run.cpp - Compiles a layer in memory and runs it -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Common/CompileFlags.h"
#include "Common/Version.h"
#include "DeviceCall.h"
#include "Runner.h"
#include "moe/Runtime/moe.h"
#include "moe/Support/OutputFile.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/WithColor.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
namespace cl = llvm::cl;
using llvm::Error;

//===----------------------------------------------------------------------===//
// Flags
//===----------------------------------------------------------------------===//

namespace {

enum class DeviceKind { CPU, CUDA };

struct Flags {
  cl::OptionCategory category{"moe-run options"};
  cl::opt<std::string> file{cl::Positional, cl::Required, cl::desc("FILE.mlir"),
                            cl::cat(category)};
  cl::opt<bool> printSignature{
      "print-signature", cl::cat(category),
      cl::desc("Print arguments and results of the function, and stop")};

  // Arguments.
  cl::opt<std::string> weights{
      "weights", cl::value_desc("PATH"), cl::cat(category),
      cl::desc("Checkpoint that gives arguments with a moe.param: a folder, a "
               ".safetensors file or its index; or a folder of .npy files")};
  cl::list<std::string> inputs{
      "input", cl::value_desc("[NAME=]FILE[:TENSOR]"), cl::cat(category),
      cl::desc("A .npy or .safetensors file for an argument (without NAME: the "
               "first without a moe.param)")};
  cl::list<std::string> shapes{
      "shape", cl::value_desc("NAME=64x2048"), cl::cat(category),
      cl::desc("The shape of an argument; without a file for it, random normal "
               "values")};
  cl::list<std::string> fills{
      "fill", cl::value_desc("NAME=LOW..HIGH"), cl::cat(category),
      cl::desc("Random values in a range, or one value, for an argument")};
  cl::opt<bool> randomWeights{
      "random-weights", cl::cat(category),
      cl::desc("Random values, uniform in ±1/sqrt(fan-in), for all other "
               "arguments")};
  cl::opt<uint64_t> seed{"seed", cl::init(0), cl::cat(category),
                         cl::desc("Of all random values (default: 0)")};

  // Results.
  cl::list<std::string> outputs{
      "output", cl::value_desc("[NAME=]FILE"), cl::cat(category),
      cl::desc("A .npy file for a result, or a .safetensors file for one or "
               "all. bf16 becomes f32 in .npy")};
  cl::list<std::string> checks{
      "check", cl::value_desc("[NAME=]FILE[:TENSOR]"), cl::ValueOptional,
      cl::cat(category),
      cl::desc(
          "Compare results with a file or, without one, with a second "
          "compile that takes another way through the compiler. A "
          "difference ends the run with status 1, and nothing is written")};
  cl::opt<double> tolerance{
      "tolerance", cl::value_desc("X"), cl::cat(category),
      cl::desc("Largest max|y-ref|/max|ref| of a row that passes (default: "
               "f32 1e-5, bf16 1/64, f16 1/512, f64 1.9e-14; integers are "
               "compared exactly)")};

  // Routing.
  cl::opt<std::string> stats{
      "stats", cl::value_desc("FILE.json"), cl::ValueOptional,
      cl::cat(category),
      cl::desc("Print where the tokens went: rows, share and contribution of "
               "each expert, entropy and max/mean load; with a file, also as "
               "JSON")};
  cl::opt<std::string> recordIds{
      "record-ids", cl::value_desc("FILE"), cl::cat(category),
      cl::desc(
          "Write the expert of each choice: a .npy file, or a .safetensors "
          "file where there are several layers")};
  cl::opt<std::string> replayIds{
      "replay-ids", cl::value_desc("FILE"), cl::cat(category),
      cl::desc("Send tokens where they went in the run that recorded FILE; "
               "weights are those of the layer's own logits at these ids")};

  // Packed weights; --pack-weights is a flag of the compilation.
  cl::opt<std::string> savePacked{
      "save-packed", cl::value_desc("FILE.safetensors"), cl::cat(category),
      cl::desc("With --pack-weights: write the layer's weights, packed; "
               "--weights=FILE maps them in a later run, which packs nothing")};

  // Where.
  cl::opt<DeviceKind> device{
      "device", cl::cat(category), cl::init(DeviceKind::CPU),
      cl::desc("What runs the layer:"),
      cl::values(clEnumValN(DeviceKind::CPU, "cpu", "this machine (default)"),
                 clEnumValN(DeviceKind::CUDA, "cuda",
                            "its NVIDIA GPU; checks are computed on the "
                            "CPU"))};

  // Timing.
  cl::opt<bool> benchmark{
      "benchmark", cl::cat(category),
      cl::desc("Time the layer, count its work, and measure the machine")};
  cl::opt<double> minTime{"min-time", cl::value_desc("SECONDS"), cl::init(1),
                          cl::cat(category),
                          cl::desc("How long to repeat calls (default: 1)")};
  cl::opt<unsigned> threads{
      "threads", cl::value_desc("N"), cl::init(0), cl::cat(category),
      cl::desc("Threads of --lowering=cpu and of the measured roof (default: "
               "all of this process)")};
  cl::opt<std::string> json{
      "json", cl::value_desc("FILE"), cl::cat(category),
      cl::desc("Write what is printed as JSON; '-' prints it instead")};

  // Compilation.
  cl::opt<bool> runtimeVerification{
      "runtime-verification", cl::cat(category),
      cl::desc("Check at run time what the verifier cannot see: ids and slots "
               "out of bounds, offsets that go backwards, sizes that differ")};
  CompileFlags compile{category};
};

constexpr llvm::StringLiteral kOverview =
    R"(compiles an MoE layer in memory and runs it on tensors

  moe-run layer.mlir --weights=CHECKPOINT --input=x.npy --output=y.npy --check
  moe-run layer.mlir --random-weights --shape=x=64x2048 --benchmark --json=-
  moe-run layer.mlir --random-weights --shape=x=64x2048 --device=cuda --check

Arguments with a moe.param come from the checkpoint, others from --input.
)";

} // namespace

//===----------------------------------------------------------------------===//
// Flags to options
//===----------------------------------------------------------------------===//

/// Appends `parse(text)` of each text.
template <typename T>
static Error parseAll(const cl::list<std::string> &texts,
                      llvm::Expected<T> (*parse)(StringRef),
                      std::vector<T> &parsed) {
  for (const std::string &text : texts) {
    llvm::Expected<T> value = parse(text);
    if (!value)
      return llvm::createStringError("--" + texts.ArgStr + ": " +
                                     llvm::toString(value.takeError()));
    parsed.push_back(std::move(*value));
  }
  return Error::success();
}

static Error parseChecks(const Flags &flags, RunOptions &options) {
  for (const std::string &text : flags.checks) {
    if (text.empty()) {
      options.compilation.makeCheck = true;
      continue;
    }
    llvm::Expected<NamedFile> file = parseNamedFile(text);
    if (!file)
      return llvm::createStringError("--check: " +
                                     llvm::toString(file.takeError()));
    options.references.push_back(std::move(*file));
  }
  return Error::success();
}

/// The file of a flag that names no argument and no tensor; none without it.
static llvm::Expected<std::optional<NamedFile>>
parseIdsFile(const cl::opt<std::string> &flag) {
  if (!flag.getNumOccurrences())
    return std::nullopt;
  llvm::Expected<NamedFile> file = parseNamedFile(flag);
  if (!file)
    return llvm::createStringError("--" + flag.ArgStr + ": " +
                                   llvm::toString(file.takeError()));
  if (!file->name.empty() || !file->tensor.empty())
    return llvm::createStringError(
        "--" + flag.ArgStr + "=" + flag +
        " names a tensor; give the file alone, its tensors are 'layer0', "
        "'layer1', ...");
  return std::move(*file);
}

/// Options of --stats, --record-ids and --replay-ids.
static Error setRoutingOptions(const Flags &flags, RunOptions &options) {
  auto &statistics = options.compilation.statistics;
  if (flags.stats.getNumOccurrences()) {
    options.reportRouting = true;
    statistics = {RoutingStatistic::Tokens, RoutingStatistic::Choices,
                  RoutingStatistic::Contribution};
  }
  auto recorded = parseIdsFile(flags.recordIds);
  if (!recorded)
    return recorded.takeError();
  auto replayed = parseIdsFile(flags.replayIds);
  if (!replayed)
    return replayed.takeError();
  options.recordedIds = std::move(*recorded);
  options.replayedIds = std::move(*replayed);
  if (options.recordedIds) {
    statistics.push_back(RoutingStatistic::Ids);
    if (Error error =
            checkOutputPath("--record-ids", options.recordedIds->file))
      return error;
  }
  options.compilation.replaysIds = options.replayedIds.has_value();
  return Error::success();
}

/// What does not go with --device=cuda.
static Error checkDevice(const Flags &flags) {
  if (flags.device != DeviceKind::CUDA)
    return Error::success();
  const std::pair<bool, StringRef> others[] = {
      {flags.benchmark, "--benchmark"},
      {flags.stats.getNumOccurrences() != 0, "--stats"},
      {flags.recordIds.getNumOccurrences() != 0, "--record-ids"},
      {flags.runtimeVerification, "--runtime-verification"},
      {flags.compile.lowering.getNumOccurrences() != 0, "--lowering"},
      {!flags.compile.isa.empty(), "--isa"},
      {flags.compile.relaxedRounding, "--relaxed-rounding"},
      {flags.compile.packWeights, "--pack-weights"},
      {!flags.compile.cpu.empty(), "--target-cpu"}};
  for (auto [isGiven, name] : others)
    if (isGiven)
      return llvm::createStringError(
          name +
          " is for layers on the CPU, and --device=cuda runs this one on a "
          "GPU" +
          (name == "--stats" || name == "--record-ids"
               ? "; run it without --device=cuda: tokens are routed by the "
                 "same rules there"
               : ""));
  return Error::success();
}

/// What does not go with --pack-weights.
static Error checkPacking(const Flags &flags) {
  if (!flags.compile.packWeights) {
    if (flags.savePacked.getNumOccurrences())
      return llvm::createStringError("--save-packed is for --pack-weights, "
                                     "which is not given");
    return Error::success();
  }
  const std::pair<bool, StringRef> others[] = {
      {flags.stats.getNumOccurrences() != 0, "--stats"},
      {flags.recordIds.getNumOccurrences() != 0, "--record-ids"},
      {flags.replayIds.getNumOccurrences() != 0, "--replay-ids"}};
  for (auto [isGiven, name] : others)
    if (isGiven)
      return llvm::createStringError(
          name + " and --pack-weights exclude each other: packing fuses "
                 "moe.dispatch, where ids are read; run it without "
                 "--pack-weights: tokens are routed by the same rules there");
  if (!flags.savePacked.getNumOccurrences())
    return Error::success();
  if (!StringRef(flags.savePacked).ends_with(".safetensors"))
    return llvm::createStringError("--save-packed=" + flags.savePacked +
                                   ": name a .safetensors file");
  return checkOutputPath("--save-packed", flags.savePacked);
}

/// What is wrong with a flag by itself, or with two together.
static Error checkFlags(const Flags &flags) {
  auto isSecondsOrZero = [](double value) {
    return std::isfinite(value) && value >= 0;
  };
  if (Error error = flags.compile.check())
    return error;
  if (!isSecondsOrZero(flags.minTime))
    return llvm::createStringError("--min-time is a number of seconds");
  if (!isSecondsOrZero(flags.tolerance))
    return llvm::createStringError("--tolerance is a number from 0 up");
  if (flags.tolerance.getNumOccurrences() && flags.checks.empty())
    return llvm::createStringError("--tolerance is for --check, which is not "
                                   "given");
  if (flags.randomWeights && !flags.weights.empty())
    return llvm::createStringError("--weights and --random-weights exclude "
                                   "each other");
  if (flags.stats.getNumOccurrences() && flags.benchmark)
    return llvm::createStringError("--stats and --benchmark exclude each "
                                   "other: the time would be that of the "
                                   "statistics as well; run twice");
  if (flags.recordIds.getNumOccurrences() && flags.benchmark)
    return llvm::createStringError("--record-ids and --benchmark exclude each "
                                   "other: the time would be that of the "
                                   "record as well; run twice");
  if (Error error = checkDevice(flags))
    return error;
  if (Error error = checkPacking(flags))
    return error;
  constexpr unsigned maxThreads = 4096;
  if (flags.threads > maxThreads)
    return llvm::createStringError("--threads goes up to " + Twine(maxThreads));
  return Error::success();
}

static llvm::Expected<RunOptions> makeOptions(const Flags &flags) {
  if (Error error = checkFlags(flags))
    return std::move(error);
  RunOptions options;
  if (flags.device == DeviceKind::CUDA && !flags.printSignature) {
    llvm::Expected<std::string> chip = findDeviceChip();
    if (!chip)
      return chip.takeError();
    options.compilation.chip = *chip;
    options.onDevice = true;
  }
  options.compilation.file = flags.file;
  options.compilation.entry = flags.compile.entry;
  if (!flags.compile.cpu.empty())
    options.compilation.codeGen.cpu = flags.compile.cpu;
  if (!flags.compile.isa.empty()) {
    auto versions = parseISAs(flags.compile.isa);
    if (!versions)
      return versions.takeError();
    options.compilation.versions = std::move(*versions);
  }
  options.compilation.codeGen.optLevel = flags.compile.optLevel;
  options.compilation.codeGen.lowering = flags.compile.lowering;
  options.compilation.relaxedRounding = flags.compile.relaxedRounding;
  options.compilation.packsWeights = flags.compile.packWeights;
  options.savedPacked = flags.savePacked;
  options.compilation.runtimeVerification = flags.runtimeVerification;
  options.compilation.dumpStages = flags.compile.dumpStages;
  options.compilation.makeWorkProbe = flags.benchmark;
  options.arguments.weights = flags.weights;
  options.arguments.randomWeights = flags.randomWeights;
  options.arguments.seed = flags.seed;
  options.benchmark = flags.benchmark;
  if (Error error = setRoutingOptions(flags, options))
    return std::move(error);
  options.minSeconds = flags.minTime;
  options.numThreads =
      flags.threads ? flags.threads.getValue() : getNumAvailableThreads();
  moe_rt_set_num_threads(options.numThreads);
  if (flags.tolerance.getNumOccurrences())
    options.tolerance = flags.tolerance;
  if (Error error =
          parseAll(flags.inputs, parseNamedFile, options.arguments.inputs))
    return std::move(error);
  if (Error error =
          parseAll(flags.shapes, parseNamedShape, options.arguments.shapes))
    return std::move(error);
  if (Error error =
          parseAll(flags.fills, parseNamedFill, options.arguments.fills))
    return std::move(error);
  if (Error error = parseAll(flags.outputs, parseNamedFile, options.outputs))
    return std::move(error);
  if (Error error = parseChecks(flags, options))
    return std::move(error);
  return options;
}

/// "--check ref.npy" as "--check=ref.npy", "--stats s.json" as
/// "--stats=s.json": a value that may be missing has to be joined to its flag,
/// but such a file can be meant for nothing else.
static std::vector<std::string> joinOptionalFiles(int argc, char **argv) {
  std::vector<std::string> joined;
  auto isAfter = [&](StringRef flag) {
    StringRef last = joined.empty() ? StringRef() : StringRef(joined.back());
    return last.consume_front("-") && last.ltrim('-') == flag;
  };
  for (StringRef argument : ArrayRef(argv, argc)) {
    bool isTensorFile =
        argument.ends_with(".npy") || argument.contains(".safetensors");
    bool isValue = (isAfter("check") && isTensorFile) ||
                   (isAfter("stats") && argument.ends_with(".json"));
    if (isValue && !argument.starts_with("-"))
      joined.back() += ("=" + argument).str();
    else
      joined.push_back(argument.str());
  }
  return joined;
}

//===----------------------------------------------------------------------===//
// Main
//===----------------------------------------------------------------------===//

static Error writeJSON(StringRef path, const llvm::json::Value &value) {
  if (path.empty())
    return Error::success();
  return writeFileAtomically(path, [&](llvm::raw_ostream &os) {
    os << llvm::formatv("{0:2}\n", value);
    return Error::success();
  });
}

/// Checks the files of --json and --stats before work is done for them.
static Error checkJSONPaths(const Flags &flags) {
  if (!flags.json.empty())
    if (Error error = checkOutputPath("--json", flags.json))
      return error;
  if (!flags.stats.empty())
    if (Error error = checkOutputPath("--stats", flags.stats))
      return error;
  return Error::success();
}

/// Whether all checks passed.
static llvm::Expected<bool> run(const Flags &flags) {
  llvm::Expected<RunOptions> options = makeOptions(flags);
  if (!options)
    return options.takeError();
  if (flags.printSignature) {
    if (Error error = printSignature(options->compilation,
                                     flags.compile.remarks, llvm::outs()))
      return std::move(error);
    return true;
  }
  if (Error error = checkJSONPaths(flags))
    return std::move(error);
  llvm::Expected<Report> report = Runner(*options).run(flags.compile.remarks);
  if (!report)
    return report.takeError();
  if (flags.json != "-")
    report->print(llvm::outs());
  if (Error error = writeJSON(flags.json, report->toJSON()))
    return std::move(error);
  if (Error error = writeJSON(flags.stats, report->routingToJSON()))
    return std::move(error);
  return report->passed();
}

static void printError(const Twine &text) {
  llvm::WithColor::error(llvm::errs(), "moe-run") << text << '\n';
}

int main(int argc, char **argv) {
  llvm::InitLLVM initLLVM(argc, argv);
  addVersionPrinter();
  removeForeignOption("stats");
  removeForeignOption("threads");
  Flags flags;
  cl::HideUnrelatedOptions(flags.category);
  std::vector<std::string> joined = joinOptionalFiles(argc, argv);
  std::vector<const char *> arguments;
  for (const std::string &argument : joined)
    arguments.push_back(argument.c_str());
  cl::ParseCommandLineOptions(arguments.size(), arguments.data(), kOverview);
  llvm::Expected<bool> passed = run(flags);
  if (!passed) {
    std::string text = llvm::toString(passed.takeError());
    if (!text.empty()) // Diagnostics have told it otherwise.
      printError(text);
    return 1;
  }
  if (!*passed) {
    printError("a check failed; no output was written");
    return 1;
  }
  return 0;
}
