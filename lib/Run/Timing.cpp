//===- Timing.cpp - How long a call takes -----------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Timing.h"
#include <algorithm>
#include <vector>

using namespace mlir::moe;

static constexpr size_t kMinCalls = 3, kMaxCalls = 1'000'000;

static double getMedian(const std::vector<double> &sorted) {
  size_t middle = sorted.size() / 2;
  if (sorted.size() % 2)
    return sorted[middle];
  return (sorted[middle - 1] + sorted[middle]) / 2;
}

Timing mlir::moe::timeCalls(llvm::function_ref<void()> function,
                            double minSeconds) {
  Timing timing;
  Stopwatch warmUp;
  do {
    function();
    ++timing.numWarmUps;
  } while (warmUp.getSeconds() < minSeconds / 10);

  std::vector<double> seconds;
  Stopwatch total;
  do {
    Stopwatch call;
    function();
    seconds.push_back(call.getSeconds());
  } while (seconds.size() < kMinCalls ||
           (seconds.size() < kMaxCalls && total.getSeconds() < minSeconds));
  std::sort(seconds.begin(), seconds.end());
  timing.numCalls = seconds.size();
  timing.median = getMedian(seconds);
  timing.min = seconds.front();
  timing.max = seconds.back();
  return timing;
}
