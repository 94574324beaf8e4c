//===- ParallelFor.cpp - Tasks of compiled layers on OpenMP threads -------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/moe.h"

#include <omp.h>

extern "C" void moe_rt_set_num_threads(int32_t count) {
  omp_set_num_threads(count);
}

extern "C" void moe_rt_parallel_for(int64_t count,
                                    void (*task)(void *context, int64_t index),
                                    void *context) {
  // Tasks differ in length with the rows of their expert.
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t index = 0; index < count; ++index)
    task(context, index);
}
