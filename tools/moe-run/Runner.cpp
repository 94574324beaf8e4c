//===- Runner.cpp - Compiles and runs a layer -------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Runner.h"

#include "CallGuard.h"
#include "DeviceCall.h"
#include "moe/Run/ResidentMemory.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/TargetParser/Host.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;

//===----------------------------------------------------------------------===//
// Before anything runs
//===----------------------------------------------------------------------===//

Error Runner::planReferences() {
  for (const NamedFile &file : options.references) {
    auto found = findResults(signature, "--check", file);
    if (!found)
      return found.takeError();
    for (size_t i : *found) {
      NamedFile source = file;
      if (found->size() > 1)
        source.tensor = signature.results[i].name;
      auto tensor = openTensor(source, signature.results[i].name);
      if (!tensor)
        return llvm::createStringError("--check: " +
                                       llvm::toString(tensor.takeError()));
      references.push_back({i, std::move(*tensor)});
    }
  }
  return Error::success();
}

Error Runner::plan() {
  auto arguments = bindArguments(loaded, sources);
  if (!arguments)
    return arguments.takeError();
  bound = std::move(*arguments);
  for (const BoundArgument &argument : bound)
    if (!argument.getNote().empty())
      summary.notes.push_back(argument.getNote().str());
  auto planned = planOutputs(signature, options.outputs);
  if (!planned)
    return planned.takeError();
  outputs = std::move(*planned);
  return planReferences();
}

/// The name of a layer's ids in a file with those of several layers.
static std::string getRecordedName(unsigned layer) {
  return "layer" + std::to_string(layer);
}

/// An error if `file` has room for one array and there are more.
static Error checkRoom(StringRef flag, const NamedFile &file, size_t numLayers,
                       StringRef function) {
  if (file.isSafetensors() || numLayers == 1)
    return Error::success();
  return llvm::createStringError(
      flag + "=" + file.file + " is one array, but @" + function +
      " has the ids of " + Twine(numLayers) +
      " layers; name a .safetensors file, where they are 'layer0', 'layer1', "
      "...");
}

Error Runner::planReplay(ArrayRef<unsigned> layers) {
  if (!options.replayedIds)
    return Error::success();
  const NamedFile &file = *options.replayedIds;
  if (Error error =
          checkRoom("--replay-ids", file, layers.size(), signature.name))
    return error;
  for (unsigned layer : layers) {
    NamedFile &input = sources.inputs.emplace_back(file);
    input.name = getReplayedName(layer);
    if (file.isSafetensors())
      input.tensor = getRecordedName(layer);
  }
  return Error::success();
}

static bool isIds(const AppendedStatistic &appended) {
  return appended.statistic == RoutingStatistic::Ids;
}

Error Runner::checkRecord() const {
  if (!options.recordedIds)
    return Error::success();
  return checkRoom("--record-ids", *options.recordedIds,
                   llvm::count_if(compiled.statistics, isIds), signature.name);
}

Error Runner::record() const {
  if (!options.recordedIds)
    return Error::success();
  std::vector<TensorView> ids;
  for (auto [what, tensor] : llvm::zip_equal(compiled.statistics, statistics))
    if (isIds(what))
      ids.push_back(tensor.getView(getRecordedName(what.layer)));
  const NamedFile &file = *options.recordedIds;
  return file.isSafetensors() ? writeSafetensors(file.file, ids)
                              : writeNpy(file.file, ids.front());
}

Error Runner::compile(const RemarkFlags &remarks) {
  // Gone at the end of this function: MLIR's memory is not a layer's.
  Compilation compilation(options.compilation);
  if (Error error = compilation.parse(remarks))
    return error;
  signature = compilation.getSignature();
  if (Error error = planReplay(compilation.getReplayed()))
    return error;
  if (Error error = planPacking(compilation))
    return error;
  if (Error error = plan())
    return error;
  Stopwatch watch;
  Expected<CompiledLayer> layer = compilation.compile(packsWeights);
  if (!layer)
    return layer.takeError();
  compiled = std::move(*layer);
  if (Error error = checkRecord())
    return error;
  summary.compileSeconds = watch.getSeconds();
  return Error::success();
}

Error Runner::checkMemory(const Shapes &shapes,
                          const EntrySignature &signature) const {
  uint64_t needed = 0;
  auto add = [&](uint64_t bytes) {
    needed = llvm::SaturatingAdd(needed, bytes);
  };
  for (const BoundArgument &argument : bound)
    add(argument.getCopiedBytes());
  for (const HostTensor &tensor : packed)
    add(tensor.getByteSize());
  for (auto [result, shape] : llvm::zip(signature.results, shapes))
    add(getTensorBytes(shape, result.elementType).value_or(UINT64_MAX));
  uint64_t physical = getPhysicalMemoryBytes();
  if (physical == 0 || needed <= physical)
    return Error::success();
  return llvm::createStringError(
      "the arguments and results of @" + signature.name + " take " +
      Twine(needed >> 20) + " MiB, but this machine has " +
      Twine(physical >> 20) + " MiB; make them smaller");
}

/// `error`, which names one tensor, with the shapes that it has to fit to.
static Error addShapes(Error error, ArrayRef<EntryTensor> arguments,
                       const Shapes &shapes) {
  std::string text = llvm::toString(std::move(error));
  llvm::raw_string_ostream os(text);
  os << "; the arguments are ";
  llvm::interleaveComma(llvm::zip(arguments, shapes), os, [&](auto &&argument) {
    os << quoteName(std::get<0>(argument).name) << " = "
       << formatShape(std::get<1>(argument));
  });
  return llvm::createStringError(text);
}

Expected<std::vector<HostTensor>>
Runner::makeResults(const Engine &engine, const Shapes &argumentShapes) {
  // Shapes are checked before values are read or made: the data is not looked
  // at, but must not be null.
  alignas(64) static uint8_t anyData[64];
  std::vector<moe_tensor> tensors;
  ArrayRef<EntryTensor> types = engine.getSignature().arguments;
  for (auto [type, shape] : llvm::zip(types, argumentShapes))
    tensors.push_back({anyData, shape.data(), nullptr,
                       static_cast<int32_t>(shape.size()),
                       *getCType(type.elementType)});
  SmallVector<const moe_tensor *> pointers;
  for (const moe_tensor &tensor : tensors)
    pointers.push_back(&tensor);
  SmallVector<SmallVector<int64_t>> inferred;
  if (Error error = engine.inferResultShapes(pointers, inferred))
    return addShapes(std::move(error), types, argumentShapes);
  Shapes shapes(inferred.begin(), inferred.end());
  for (auto [result, shape] : llvm::zip(engine.getSignature().results, shapes))
    if (ShapedType::isDynamicShape(shape))
      return llvm::createStringError(
          "the shape of result " + quoteName(result.name) + " (" +
          formatTensorType(shape, result.elementType) +
          ") depends on the values of the arguments; make it follow from their "
          "shapes");
  if (Error error = checkMemory(shapes, engine.getSignature()))
    return std::move(error);
  std::vector<HostTensor> made;
  for (auto [result, shape] :
       llvm::zip(engine.getSignature().results, shapes)) {
    auto tensor = HostTensor::allocate(result.name, shape, result.elementType);
    if (!tensor)
      return tensor.takeError();
    made.push_back(std::move(*tensor));
  }
  return made;
}

Error Runner::load() {
  Expected<Shapes> shapes = inferArgumentShapes();
  if (!shapes)
    return shapes.takeError();
  Expected<std::vector<HostTensor>> made =
      makeResults(*compiled.layer, *shapes);
  if (!made)
    return made.takeError();
  results = std::move(*made);
  for (const Reference &reference : references) {
    size_t i = reference.result;
    if (Error error = checkComparable(
            results[i].getView(signature.results[i].name), reference.tensor))
      return error;
  }
  Stopwatch watch;
  for (BoundArgument &argument : bound) {
    Expected<HostTensor> tensor = argument.load(options.arguments.seed);
    if (!tensor)
      return llvm::createStringError("argument " +
                                     quoteName(argument.getArgument().name) +
                                     ": " + llvm::toString(tensor.takeError()));
    arguments.push_back(std::move(*tensor));
  }
  summary.loadSeconds = watch.getSeconds();
  return packWeights();
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

namespace {

/// Arguments and results as a call takes them.
class CallTensors {
public:
  CallTensors(ArrayRef<const HostTensor *> arguments,
              ArrayRef<HostTensor> results) {
    for (const HostTensor *tensor : arguments)
      tensors.push_back(tensor->getCTensor());
    for (const HostTensor &tensor : results)
      tensors.push_back(tensor.getCTensor());
    for (const moe_tensor &tensor : tensors)
      pointers.push_back(&tensor);
  }

  ArrayRef<const moe_tensor *> get() const { return pointers; }

private:
  std::vector<moe_tensor> tensors;
  std::vector<const moe_tensor *> pointers;
};

} // namespace

Error Runner::call(const Engine &engine, ArrayRef<const HostTensor *> arguments,
                   ArrayRef<HostTensor> results) {
  CallTensors tensors(arguments, results);
  CallGuard guard(options.compilation.runtimeVerification);
  return engine.call(tensors.get());
}

Error Runner::callLayer() {
  if (options.onDevice)
    return callOnDevice(*compiled.layer, arguments, results);
  return call(*compiled.layer, layerArguments, results);
}

Error Runner::addCheck(size_t result, const TensorView &reference,
                       StringRef against) {
  const EntryTensor &type = signature.results[result];
  Expected<Difference> difference =
      compareTensors(results[result].getView(type.name), reference);
  if (!difference)
    return difference.takeError();
  double tolerance =
      options.tolerance.value_or(getDefaultTolerance(type.elementType));
  summary.checks.push_back({type.name, against.str(), *difference, tolerance});
  return Error::success();
}

Expected<std::vector<HostTensor>> Runner::callOther(const Engine &engine) {
  std::vector<const HostTensor *> taken = layerArguments;
  if (packsWeights && hasUnpackedLayer) {
    taken.clear();
    for (const HostTensor &argument : arguments)
      taken.push_back(&argument);
  }
  Shapes shapes;
  for (const HostTensor *argument : taken)
    shapes.emplace_back(argument->getShape());
  Expected<std::vector<HostTensor>> made = makeResults(engine, shapes);
  if (made)
    if (Error error = call(engine, taken, *made))
      return std::move(error);
  return made;
}

Error Runner::check() {
  for (const Reference &reference : references)
    if (Error error = addCheck(reference.result, reference.tensor,
                               reference.tensor.file->getPath()))
      return error;
  if (!compiled.check)
    return Error::success();
  Expected<std::vector<HostTensor>> expected = callOther(*compiled.check);
  if (!expected)
    return expected.takeError();
  for (auto [i, tensor] : llvm::enumerate(*expected))
    if (Error error = addCheck(i, tensor.getView(signature.results[i].name),
                               kCheckDescription))
      return error;
  return Error::success();
}

void Runner::takeStatistics() {
  auto first = results.begin() + signature.results.size();
  statistics.assign(std::make_move_iterator(first),
                    std::make_move_iterator(results.end()));
  results.erase(first, results.end());
  if (options.reportRouting)
    summary.routing = readRouting(compiled.statistics, statistics);
}

Error Runner::benchmark() {
  Expected<std::vector<HostTensor>> counts = callOther(*compiled.probe);
  if (!counts)
    return counts.takeError();

  Report::Benchmark benchmark;
  benchmark.work = compiled.workProbe->read(*counts, arguments, results);
  benchmark.roof = *roof;
  benchmark.bound = roof->getBound(benchmark.work);
  if (options.compilation.codeGen.lowering == LoweringKind::CPU)
    benchmark.codeThreads = options.numThreads;
  CallTensors tensors(layerArguments, results);
  Engine::PackedFunction function = compiled.layer->getFunction();
  Expected<Workspace> workspace =
      Workspace::allocate(compiled.layer->getWorkspaceBytes(tensors.get()));
  if (!workspace)
    return workspace.takeError();
  CallGuard guard(options.compilation.runtimeVerification);
  benchmark.timing = timeCalls(
      [&] {
        function(tensors.get().data(), workspace->getData(),
                 workspace->getNumBytes());
      },
      options.minSeconds);
  summary.benchmark = std::move(benchmark);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// The whole run
//===----------------------------------------------------------------------===//

/// Fills what is known once the layer has run.
void Runner::report() {
  summary.file = options.compilation.file;
  summary.entry = signature.name;
  summary.triple = llvm::sys::getProcessTriple();
  summary.cpu = options.compilation.codeGen.cpu;
  if (summary.cpu == "native")
    summary.cpu = llvm::sys::getHostCPUName();
  if (!options.compilation.versions.empty())
    summary.cpu = llvm::join(
        llvm::map_range(options.compilation.versions,
                        [](const ISA &isa) { return isa.name.str(); }),
        ", ");
  summary.optLevel = options.compilation.codeGen.optLevel;
  summary.numThreads = options.numThreads;
  summary.seed = options.arguments.seed;
  for (auto [bound, tensor] : llvm::zip(bound, arguments)) {
    summary.arguments.push_back({bound.getArgument().name,
                                 {},
                                 tensor.getType(),
                                 bound.getSource().str(),
                                 tensor.getByteSize(),
                                 tensor.isMapped()});
    summary.arguments.back().shape.assign(tensor.getShape().begin(),
                                          tensor.getShape().end());
  }
  for (auto [type, tensor] : llvm::zip(signature.results, results)) {
    summary.results.push_back(
        {type.name, {}, tensor.getType(), "", tensor.getByteSize(), false});
    summary.results.back().shape.assign(tensor.getShape().begin(),
                                        tensor.getShape().end());
  }
  for (const OutputFilePlan &output : outputs)
    for (size_t i : output.results)
      summary.results[i].file = output.file;
  summary.peakResidentBytes = getPeakResidentBytes();
}

Expected<Report> Runner::run(const RemarkFlags &remarks) {
  if (Error error = compile(remarks))
    return std::move(error);
  if (options.benchmark) {
    auto measured = measureMachineRoof(CodeGenOptions(), options.numThreads);
    if (!measured)
      return measured.takeError();
    roof = std::move(*measured);
  }
  releaseCompilerMemory();

  if (Error error = load())
    return std::move(error);
  Stopwatch watch;
  if (Error error = callLayer())
    return std::move(error);
  summary.callSeconds = watch.getSeconds();
  takeStatistics();
  if (Error error = check())
    return std::move(error);
  if (options.benchmark)
    if (Error error = benchmark())
      return std::move(error);
  report();
  if (!summary.passed())
    return std::move(summary);
  if (Error error = writeOutputs(signature, outputs, results))
    return std::move(error);
  if (Error error = record())
    return std::move(error);
  if (Error error = savePacked())
    return std::move(error);
  return std::move(summary);
}

//===----------------------------------------------------------------------===//
// --print-signature
//===----------------------------------------------------------------------===//

static void print(const EntrySignature &signature, llvm::raw_ostream &os) {
  os << "@" << signature.name << '\n';
  for (const EntryTensor &argument : signature.arguments) {
    os << "argument " << quoteName(argument.name) << ": "
       << argument.getTypeText();
    if (!argument.param.empty())
      os << ", bound to " << quoteName(argument.param);
    os << '\n';
  }
  for (const EntryTensor &result : signature.results)
    os << "result " << quoteName(result.name) << ": " << result.getTypeText()
       << '\n';
}

Error mlir::moe::printSignature(const CompilationOptions &options,
                                const RemarkFlags &remarks,
                                llvm::raw_ostream &os) {
  Compilation compilation(options);
  if (Error error = compilation.parse(remarks))
    return error;
  print(compilation.getSignature(), os);
  if (compilation.getPacking())
    print(compilation.getPackingSignature(), os);
  return Error::success();
}
