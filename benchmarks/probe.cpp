//===- probe.cpp - How fast memory is read at this moment -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include <cstdint>

/// Adds up `count` words, each thread its own part of them: on a buffer that is
/// larger than the caches this takes as long as memory needs. The sum has to be
/// used, or nothing would be read.
extern "C" uint64_t moe_bench_read(const uint64_t *words, int64_t count) {
  uint64_t sum = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i)
    sum += words[i];
  return sum;
}
