//===- Timing.h - How long a call takes -------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_TIMING_H
#define MOE_RUN_TIMING_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include <chrono>
#include <cstdint>

namespace mlir::moe {

/// Seconds since it was made.
class Stopwatch {
public:
  double getSeconds() const {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start = Clock::now();
};

struct Timing {
  uint64_t numWarmUps = 0, numCalls = 0;
  /// Seconds of a call.
  double median = 0, min = 0, max = 0;
};

/// Calls `function` without looking at the clock for a tenth of `minSeconds`,
/// at least once, then as often as `minSeconds` last, at least three times and
/// at most a million times.
Timing timeCalls(llvm::function_ref<void()> function, double minSeconds);

} // namespace mlir::moe

#endif // MOE_RUN_TIMING_H
