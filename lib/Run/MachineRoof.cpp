//===- MachineRoof.cpp - What this machine can do at most -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/MachineRoof.h"
#include "RoofKernels.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Threading.h"
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

using namespace llvm;
using namespace mlir::moe;

using Clock = std::chrono::steady_clock;

/// A round is short, so that some are not interrupted. The search for the best
/// ends when this many in a row were not a hundredth better, or at the most.
static constexpr double kRoundSeconds = 0.002;
static constexpr unsigned kNumPatientRounds = 64, kMaxRounds = 500;
/// Of the last-level cache, where the system does not say.
static constexpr uint64_t kUnknownCache = 32 << 20;

unsigned mlir::moe::getNumAvailableThreads() {
  return hardware_concurrency().compute_thread_count();
}

std::optional<double> MachineRoof::getPeak(WorkClass type) const {
  switch (type) {
  case WorkClass::F64:
    return f64;
  case WorkClass::F32:
  case WorkClass::F16:
    return f32;
  case WorkClass::BF16:
    return bf16.value_or(f32);
  case WorkClass::Integer:
    return std::nullopt;
  }
  llvm_unreachable("not a class");
}

MachineRoof::Bound MachineRoof::getBound(const Work &work) const {
  Bound bound;
  for (size_t type = 0; type < kNumWorkClasses; ++type)
    if (std::optional<double> peak = getPeak(static_cast<WorkClass>(type)))
      bound.arithmetic += work.operations[type] / *peak;
  uint64_t bytes = work.touchedWeightBytes + work.activationBytes;
  if (bytes > cacheBytes)
    bound.memory = bytes / readBandwidth;
  return bound;
}

//===----------------------------------------------------------------------===//
// Measuring
//===----------------------------------------------------------------------===//

static double getSeconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

/// Runs `body(thread)` on all threads at once; the seconds until the last is
/// done.
static double timeThreads(unsigned numThreads,
                          function_ref<void(unsigned)> body) {
  std::atomic<unsigned> numReady = 0;
  std::atomic<bool> go = false;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < numThreads; ++i)
    threads.emplace_back([&, i] {
      ++numReady;
      while (!go)
        std::this_thread::yield();
      body(i);
    });
  while (numReady < numThreads)
    std::this_thread::yield();
  Clock::time_point start = Clock::now();
  go = true;
  for (std::thread &thread : threads)
    thread.join();
  return getSeconds(Clock::now() - start);
}

/// The highest rate of many rounds, each of which returns its rate.
static double findBest(function_ref<double()> round) {
  double best = 0;
  unsigned numWorse = 0;
  for (unsigned i = 0; i < kMaxRounds && numWorse < kNumPatientRounds; ++i) {
    double rate = round();
    numWorse = rate > 1.01 * best ? 0 : numWorse + 1;
    best = std::max(best, rate);
  }
  return best;
}

/// Operations a second of a kernel on all threads.
static double measureArithmetic(const RoofKernels::ArithmeticKernel &kernel,
                                unsigned numThreads) {
  auto run = [&](int64_t iterations) {
    return timeThreads(numThreads, [&](unsigned) {
      RoofKernels::Sink sink;
      kernel.function(iterations, &sink);
    });
  };
  int64_t iterations = 1 << 12;
  while (run(iterations) < kRoundSeconds)
    iterations *= 2;
  double best = findBest([&] { return iterations / run(iterations); });
  return best * kernel.operations * numThreads;
}

/// Bytes a second that all threads read, each its own part of the buffer.
static double measureRead(const RoofKernels &kernels, HostTensor &buffer,
                          unsigned numThreads) {
  int64_t numBlocks =
      buffer.getByteSize() / RoofKernels::kBlockBytes / numThreads;
  size_t part = numBlocks * RoofKernels::kBlockBytes;
  uint8_t *data = buffer.getMutableBytes().data();
  // A page that was never written is the one page of zeros, in the cache.
  timeThreads(numThreads,
              [&](unsigned i) { memset(data + i * part, 1, part); });
  return findBest([&] {
    double seconds = timeThreads(numThreads, [&](unsigned i) {
      RoofKernels::Sink sink;
      kernels.read(numBlocks, data + i * part, &sink);
    });
    return part * numThreads / seconds;
  });
}

/// The text of a file that Linux describes cache `index` of a cpu by; empty
/// when there is none.
static std::string readCacheFile(unsigned cpu, unsigned index, StringRef name) {
  auto file = MemoryBuffer::getFileAsStream(
      formatv("/sys/devices/system/cpu/cpu{0}/cache/index{1}/{2}", cpu, index,
              name)
          .str());
  return file ? (*file)->getBuffer().trim().str() : "";
}

/// "32768K" in bytes, or 0.
static uint64_t parseCacheSize(StringRef text) {
  uint64_t size, unit = 1;
  if (text.consume_back("K"))
    unit = 1 << 10;
  else if (text.consume_back("M"))
    unit = 1 << 20;
  return text.getAsInteger(10, size) ? 0 : size * unit;
}

/// The last-level caches of all cpus, each counted once. (sysconf gives that of
/// a whole socket, of which a virtual machine may have few cpus.)
static uint64_t getCacheBytes() {
  StringSet<> seen;
  uint64_t total = 0;
  for (unsigned cpu = 0;; ++cpu) {
    unsigned last = 0;
    while (!readCacheFile(cpu, last + 1, "size").empty())
      ++last;
    std::string size = readCacheFile(cpu, last, "size");
    if (size.empty())
      break;
    if (seen.insert(readCacheFile(cpu, last, "shared_cpu_list")).second)
      total += parseCacheSize(size);
  }
  return total ? total : kUnknownCache;
}

Expected<MachineRoof>
mlir::moe::measureMachineRoof(const CodeGenOptions &options,
                              unsigned numThreads) {
  Expected<std::unique_ptr<RoofKernels>> compiled =
      RoofKernels::compile(options);
  if (!compiled)
    return compiled.takeError();
  const RoofKernels &kernels = **compiled;
  MachineRoof roof;
  roof.numThreads = numThreads;
  roof.vectorBits = kernels.vectorBits;
  roof.cacheBytes = getCacheBytes();
  int64_t bufferBytes = 4 * roof.cacheBytes;
  Expected<HostTensor> buffer = HostTensor::allocate(
      "buffer of the bandwidth's measurement", bufferBytes, ElementType::I8);
  if (!buffer)
    return buffer.takeError();
  roof.bufferBytes = bufferBytes;
  roof.readBandwidth = measureRead(kernels, *buffer, numThreads);
  roof.f32 = measureArithmetic(kernels.f32, numThreads);
  roof.f64 = measureArithmetic(kernels.f64, numThreads);
  if (kernels.bf16.function)
    roof.bf16 = measureArithmetic(kernels.bf16, numThreads);
  return roof;
}
