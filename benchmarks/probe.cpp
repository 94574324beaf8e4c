//===- probe.cpp - How fast memory is read at this moment -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include <cstdint>

/// As wide as a cache line, and as the widest vectors; GCC splits it elsewhere.
typedef uint64_t Line __attribute__((vector_size(64)));

/// Lines that are added up side by side.
constexpr int64_t kNumSums = 8;

/// The sum of whole blocks of kNumSums lines.
static uint64_t addBlocks(const Line *lines, int64_t numBlocks) {
  Line sums[kNumSums] = {};
  for (int64_t block = 0; block < numBlocks; ++block, lines += kNumSums)
    for (int64_t i = 0; i < kNumSums; ++i)
      sums[i] += lines[i];
  uint64_t total = 0;
  for (const Line &sum : sums)
    for (int lane = 0; lane < 8; ++lane)
      total += sum[lane];
  return total;
}

/// Adds up `numBlocks` blocks of 512 bytes, which begin at a line, each thread
/// its own part of them: on a buffer that is larger than the caches this takes
/// as long as memory needs. The sum has to be used, or nothing would be read.
extern "C" uint64_t moe_bench_read(const Line *lines, int64_t numBlocks) {
  constexpr int64_t kPartBlocks = 4096; // 2 MiB
  uint64_t sum = 0;
#pragma omp parallel for schedule(static) reduction(+ : sum)
  for (int64_t at = 0; at < numBlocks; at += kPartBlocks)
    sum += addBlocks(lines + at * kNumSums,
                     numBlocks - at < kPartBlocks ? numBlocks - at
                                                  : kPartBlocks);
  return sum;
}
