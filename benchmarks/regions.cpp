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
static double starts[kMostRegions], begin;
static int numRegions;
static bool isOn;

static double now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

extern "C" void moe_rt_parallel_for(int64_t count,
                                    void (*task)(void *context, int64_t index),
                                    void *context) {
  if (isOn && numRegions < kMostRegions)
    starts[numRegions++] = now();
  moe_bench_parallel_for(count, task, context);
}

using Layer = int32_t(const moe_tensor *const *tensors, void *workspace,
                      size_t bytes);

/// Calls `layer` and notes its regions.
extern "C" int32_t moe_bench_call(Layer *layer,
                                  const moe_tensor *const *tensors,
                                  void *workspace, size_t bytes) {
  numRegions = 0;
  isOn = true;
  begin = now();
  int32_t status = layer(tensors, workspace, bytes);
  isOn = false;
  return status;
}

/// How many regions that call had, up to kMostRegions, and after how many
/// seconds each began.
extern "C" int32_t moe_bench_regions(double *seconds) {
  for (int i = 0; i < numRegions; ++i)
    seconds[i] = starts[i] - begin;
  return numRegions;
}
