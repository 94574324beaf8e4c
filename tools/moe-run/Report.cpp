//===- Report.cpp - What a run tells ----------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Report.h"

#include "moe/Run/NamedValues.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace mlir::moe;
using llvm::formatv;
namespace json = llvm::json;

std::optional<double> Report::Benchmark::getRoofShare() const {
  if (bound.get() == 0)
    return std::nullopt;
  return bound.get() / timing.median;
}

bool Report::passed() const {
  return llvm::all_of(checks,
                      [](const Check &check) { return check.passed(); });
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

/// "1.25 ms".
static std::string formatSeconds(double seconds) {
  if (seconds < 1e-3)
    return formatv("{0:f2} us", seconds * 1e6);
  if (seconds < 1)
    return formatv("{0:f2} ms", seconds * 1e3);
  return formatv("{0:f2} s", seconds);
}

/// "402.7 MB": decimal, as bandwidths are.
static std::string formatBytes(uint64_t bytes) {
  if (bytes < 1'000'000)
    return formatv("{0:f1} kB", bytes / 1e3);
  if (bytes < 1'000'000'000)
    return formatv("{0:f1} MB", bytes / 1e6);
  return formatv("{0:f2} GB", bytes / 1e9);
}

static void printTensors(llvm::raw_ostream &os, llvm::StringRef what,
                         llvm::ArrayRef<Report::Tensor> tensors) {
  for (const Report::Tensor &tensor : tensors) {
    os << what << ' ' << quoteName(tensor.name) << ": "
       << formatTensorType(tensor.shape, tensor.type) << ", "
       << formatBytes(tensor.bytes);
    if (!tensor.file.empty())
      os << (what == "result" ? ", to " : ", ") << tensor.file;
    os << (tensor.mapped ? ", mapped\n" : "\n");
  }
}

static void print(llvm::raw_ostream &os, const Report::Check &check) {
  const Difference &difference = check.difference;
  os << "check: " << quoteName(check.result) << " against " << check.against
     << ": ";
  if (difference.isExact)
    os << difference.numUnequal << " elements differ";
  else
    os << "error " << llvm::format("%.3g", difference.error) << ", tolerance "
       << llvm::format("%.3g", check.tolerance);
  if (difference.error > 0 || difference.numUnequal)
    os << (difference.isExact ? ", first in row " : ", worst in row ")
       << difference.row << " of " << difference.numRows;
  os << (check.passed() ? ": ok\n" : ": FAILED\n");
}

static void print(llvm::raw_ostream &os, const Timing &timing) {
  os << "benchmark: median " << formatSeconds(timing.median) << ", "
     << formatSeconds(timing.min) << " to " << formatSeconds(timing.max) << ", "
     << timing.numCalls << " calls after " << timing.numWarmUps
     << " to warm up\n";
}

static void print(llvm::raw_ostream &os, const Work &work, double seconds) {
  os << "work: " << formatv("{0:f3}", work.getOperations() / 1e9)
     << " GFLOP in contractions, "
     << formatv("{0:f2}", work.getOperations() / 1e9 / seconds) << " GFLOP/s\n";
  for (const Work::Expert &expert : work.experts)
    os << "work: " << expert.numRows << " rows on " << expert.numActive
       << " of " << expert.numExperts << " experts\n";
  if (work.weightBytes)
    os << "work: " << formatBytes(work.touchedWeightBytes) << " of "
       << formatBytes(work.weightBytes) << " weights touched, "
       << formatv("{0:f2}", work.touchedWeightBytes / 1e9 / seconds)
       << " GB/s\n";
  if (work.numUncounted)
    os << "work: " << work.numUncounted
       << " contractions inside control flow are not counted\n";
}

static void print(llvm::raw_ostream &os, const MachineRoof &roof) {
  os << "roof: " << roof.numThreads << " threads, "
     << formatv("{0:f1}", roof.f32 / 1e9) << " GFLOP/s f32, "
     << formatv("{0:f1}", roof.f64 / 1e9) << " f64, ";
  if (roof.bf16)
    os << formatv("{0:f1}", *roof.bf16 / 1e9) << " bf16";
  else
    os << "no bf16 instructions";
  os << ", " << formatv("{0:f2}", roof.readBandwidth / 1e9)
     << " GB/s read from memory\n";
}

static void print(llvm::raw_ostream &os, const Report::Benchmark &benchmark,
                  unsigned numThreads) {
  print(os, benchmark.timing);
  print(os, benchmark.work, benchmark.timing.median);
  print(os, benchmark.roof);
  std::optional<double> share = benchmark.getRoofShare();
  if (!share) {
    os << "roof: nothing that was counted bounds the call\n";
    return;
  }
  os << "roof: share " << formatv("{0:f2}", *share * 100) << " %, bound by "
     << (benchmark.bound.isMemory() ? "memory" : "arithmetic") << " ("
     << formatSeconds(benchmark.bound.get()) << "); generated code runs on "
     << benchmark.codeThreads << " of " << numThreads << " threads"
     << (benchmark.codeThreads < numThreads
             ? ", since the general lowering is sequential"
             : "")
     << '\n';
}

static void print(llvm::raw_ostream &os, const Report::Packing &packing) {
  if (!packing.file.empty()) {
    os << "packed weights: " << packing.file << ", checked in "
       << formatSeconds(packing.seconds) << '\n';
    return;
  }
  uint64_t bytes = packing.readBytes + packing.writtenBytes;
  os << "packed weights: " << formatBytes(packing.readBytes) << " to "
     << formatBytes(packing.writtenBytes) << " in "
     << formatSeconds(packing.seconds) << ", "
     << formatv("{0:f2}", bytes / 1e9 / packing.seconds)
     << " GB/s read and written\n";
}

void Report::print(llvm::raw_ostream &os) const {
  os << "@" << entry << " of " << file << ", for " << triple << ", " << cpu
     << ", -O" << optLevel << '\n';
  printTensors(os, "argument", arguments);
  printTensors(os, "result", results);
  for (const std::string &note : notes)
    os << "note: " << note << '\n';
  os << "time: compile " << formatSeconds(compileSeconds) << ", load "
     << formatSeconds(loadSeconds) << ", first call "
     << formatSeconds(callSeconds) << '\n';
  if (packing)
    ::print(os, *packing);
  for (const Check &check : checks)
    ::print(os, check);
  if (benchmark)
    ::print(os, *benchmark, numThreads);
  printRouting(routing, os);
  os << "memory: peak " << formatBytes(peakResidentBytes) << " resident\n";
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

/// JSON has no infinity: null.
static json::Value toNumber(double value) {
  if (!std::isfinite(value))
    return nullptr;
  return value;
}

/// Names and paths may hold any bytes, JSON only UTF-8.
static std::string toText(const std::string &text) {
  return json::isUTF8(text) ? text : json::fixUTF8(text);
}

static json::Value toJSON(const Report::Tensor &tensor, bool isResult) {
  json::Object object{{"name", toText(tensor.name)},
                      {"type", getName(tensor.type)},
                      {"shape", json::Array(tensor.shape)},
                      {"bytes", tensor.bytes}};
  object[isResult ? "file" : "source"] = toText(tensor.file);
  if (!isResult)
    object["mapped"] = tensor.mapped;
  return object;
}

static json::Value toJSON(const Report::Check &check) {
  const Difference &difference = check.difference;
  json::Object object{
      {"result", toText(check.result)}, {"against", toText(check.against)},
      {"passed", check.passed()},       {"exact", difference.isExact},
      {"rows", difference.numRows},     {"worst_row", difference.row}};
  if (difference.isExact) {
    object["unequal_elements"] = difference.numUnequal;
  } else {
    object["error"] = toNumber(difference.error);
    object["tolerance"] = check.tolerance;
  }
  return object;
}

static json::Value toJSON(const Timing &timing) {
  return json::Object{{"warm_up_calls", timing.numWarmUps},
                      {"calls", timing.numCalls},
                      {"median_seconds", timing.median},
                      {"min_seconds", timing.min},
                      {"max_seconds", timing.max}};
}

static json::Value toJSON(const Work &work) {
  json::Object operations;
  for (auto [type, count] : llvm::enumerate(work.operations))
    operations[getName(static_cast<WorkClass>(type))] = count;
  json::Array experts;
  for (const Work::Expert &expert : work.experts)
    experts.push_back(json::Object{{"experts", expert.numExperts},
                                   {"experts_with_rows", expert.numActive},
                                   {"rows", expert.numRows}});
  return json::Object{{"contraction_flops", work.getOperations()},
                      {"contraction_flops_by_type", std::move(operations)},
                      {"uncounted_contractions", work.numUncounted},
                      {"expert_ops", std::move(experts)},
                      {"weight_bytes", work.weightBytes},
                      {"touched_weight_bytes", work.touchedWeightBytes},
                      {"activation_bytes", work.activationBytes}};
}

static json::Value toJSON(const MachineRoof &roof) {
  json::Object object{{"threads", roof.numThreads},
                      {"f64_flops_per_second", roof.f64},
                      {"f32_flops_per_second", roof.f32},
                      {"bf16_flops_per_second", nullptr},
                      {"read_bytes_per_second", roof.readBandwidth},
                      {"vector_bits", roof.vectorBits},
                      {"cache_bytes", roof.cacheBytes},
                      {"buffer_bytes", roof.bufferBytes}};
  if (roof.bf16)
    object["bf16_flops_per_second"] = *roof.bf16;
  return object;
}

static json::Value toJSON(const Report::Benchmark &benchmark) {
  double seconds = benchmark.timing.median;
  const Work &work = benchmark.work;
  json::Object object{
      {"timing", toJSON(benchmark.timing)},
      {"work", toJSON(work)},
      {"roof", toJSON(benchmark.roof)},
      {"flops_per_second", work.getOperations() / seconds},
      {"touched_weight_bytes_per_second", work.touchedWeightBytes / seconds},
      {"bound_seconds", benchmark.bound.get()},
      {"bound_by", benchmark.bound.isMemory() ? "memory" : "arithmetic"},
      {"roof_share", nullptr},
      {"generated_code_threads", benchmark.codeThreads}};
  if (std::optional<double> share = benchmark.getRoofShare())
    object["roof_share"] = *share;
  return object;
}

static json::Value toJSON(const Report::Packing &packing) {
  json::Object object{{"seconds", packing.seconds}, {"file", nullptr}};
  if (!packing.file.empty()) {
    object["file"] = toText(packing.file);
    return object;
  }
  object["read_bytes"] = packing.readBytes;
  object["written_bytes"] = packing.writtenBytes;
  return object;
}

json::Value Report::routingToJSON() const {
  return json::Object{{"format", 1},
                      {"file", toText(file)},
                      {"entry", toText(entry)},
                      {"layers", moe::toJSON(routing)}};
}

json::Value Report::toJSON() const {
  auto tensors = [](llvm::ArrayRef<Tensor> tensors, bool areResults) {
    json::Array array;
    for (const Tensor &tensor : tensors)
      array.push_back(::toJSON(tensor, areResults));
    return array;
  };
  json::Array noteArray, checkArray;
  for (const std::string &note : notes)
    noteArray.push_back(toText(note));
  for (const Check &check : checks)
    checkArray.push_back(::toJSON(check));
  json::Object object{
      {"format", 1},
      {"file", toText(file)},
      {"entry", toText(entry)},
      {"target",
       json::Object{{"triple", triple}, {"cpu", cpu}, {"opt_level", optLevel}}},
      {"threads", numThreads},
      {"seed", seed},
      {"arguments", tensors(arguments, /*areResults=*/false)},
      {"results", tensors(results, /*areResults=*/true)},
      {"notes", std::move(noteArray)},
      {"seconds", json::Object{{"compile", compileSeconds},
                               {"load", loadSeconds},
                               {"first_call", callSeconds}}},
      {"checks", std::move(checkArray)},
      {"passed", passed()},
      {"packing", nullptr},
      {"benchmark", nullptr},
      {"routing", moe::toJSON(routing)},
      {"peak_resident_bytes", peakResidentBytes}};
  if (packing)
    object["packing"] = ::toJSON(*packing);
  if (benchmark)
    object["benchmark"] = ::toJSON(*benchmark);
  return object;
}
