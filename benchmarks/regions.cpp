//===- regions.cpp - When the parallel regions of a call began --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The last two regions of a layer are its experts, and what comes before them
// is routing: the clock at the beginning of each tells what that took, in the
// layer itself and not in a copy of its router.
//
//===----------------------------------------------------------------------===//

#include <chrono>

// The function of the run time under another name, which the one below calls.
#define moe_rt_parallel_for moe_bench_parallel_for
#include "../lib/Runtime/ParallelFor.cpp"
#undef moe_rt_parallel_for

constexpr int kMostRegions = 64;
static double starts[kMostRegions];
static int numRegions;
static bool isOn;

extern "C" void moe_rt_parallel_for(int64_t count,
                                    void (*task)(void *context, int64_t index),
                                    void *context) {
  if (isOn && numRegions < kMostRegions)
    starts[numRegions++] =
        std::chrono::duration<double>(
            std::chrono::steady_clock::now().time_since_epoch())
            .count();
  moe_bench_parallel_for(count, task, context);
}

/// From now on regions are noted.
extern "C" void moe_bench_begin_regions() {
  numRegions = 0;
  isOn = true;
}

/// How many there were, up to kMostRegions, and when each began, in seconds of
/// the steady clock. Regions are no longer noted.
extern "C" int32_t moe_bench_end_regions(double *times) {
  isOn = false;
  for (int i = 0; i < numRegions; ++i)
    times[i] = starts[i];
  return numRegions;
}
