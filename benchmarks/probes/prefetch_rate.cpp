//===- prefetch_rate.cpp - How many prefetches a core takes -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A core may drop a prefetch that it has no place for. This asks for a tile's
// weights, 24 KB that no cache has, at several paces; waits until they would
// all be there; and times loads of them in an order that no hardware prefetcher
// follows. Prints nanoseconds a cache line, and for comparison those of a tile
// that was not asked for.
//
//   g++ -O2 -march=native benchmarks/probes/prefetch_rate.cpp -o rate && ./rate
//
//===----------------------------------------------------------------------===//

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

constexpr size_t kLine = 64, kLines = 384, kTile = kLine * kLines;
constexpr int kNone = -1, kTiles = 200;

using Clock = std::chrono::steady_clock;

static double nanosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

/// `multiplies` that wait for each other: three cycles each on most cores.
static void wait(int multiplies) {
  static volatile unsigned long seed = 3;
  unsigned long x = seed;
  for (int i = 0; i < multiplies; ++i) {
    x *= 0x9e3779b97f4a7c15;
    asm volatile("" : "+r"(x));
  }
  seed = x;
}

static void request(const char *tile, int multiplies) {
  for (size_t i = 0; i < kLines; ++i) {
    __builtin_prefetch(tile + i * kLine);
    wait(multiplies);
  }
}

/// Lines 0, 37, 74, … modulo the prime after their number.
static double timeLoads(const char *tile) {
  constexpr size_t kPrime = 389;
  auto start = Clock::now();
  unsigned long sum = 0;
  for (size_t i = 1; i < kPrime; ++i)
    if (size_t line = i * 37 % kPrime - 1; line < kLines)
      sum += tile[line * kLine];
  volatile unsigned long used = sum;
  (void)used;
  return nanosecondsSince(start) / kLines;
}

static double median(std::vector<double> &times) {
  std::nth_element(times.begin(), times.begin() + times.size() / 2,
                   times.end());
  return times[times.size() / 2];
}

/// Nanoseconds from one prefetch to the next, and those of a load.
struct Pace {
  double requests, loads;
};

/// Medians of tiles far from each other.
static Pace measure(const char *memory, size_t bytes, size_t &place,
                    int multiplies) {
  std::vector<double> requests, loads;
  for (int i = 0; i < kTiles; ++i) {
    place = (place + 11 * kTile + 4096) % (bytes - kTile);
    const char *tile = memory + place / 4096 * 4096;
    auto start = Clock::now();
    if (multiplies != kNone)
      request(tile, multiplies);
    requests.push_back(nanosecondsSince(start) / kLines);
    while (nanosecondsSince(start) < 10000)
      ;
    loads.push_back(timeLoads(tile));
  }
  return {median(requests), median(loads)};
}

int main() {
  constexpr size_t kBytes = size_t(1) << 30;
  std::unique_ptr<char[]> memory(new char[kBytes]);
  memset(memory.get(), 1, kBytes);
  size_t place = 0;
  Pace none = measure(memory.get(), kBytes, place, kNone);
  printf("not asked for:        loads take %4.1f ns\n", none.loads);
  for (int multiplies : {0, 1, 2, 3, 4, 6, 8, 12}) {
    Pace pace = measure(memory.get(), kBytes, place, multiplies);
    printf("asked every %4.1f ns:  loads take %4.1f ns\n", pace.requests,
           pace.loads);
  }
}
