//===- AmpereTest.cpp - cp.async, ldmatrix and mma.sync, and their bugs ---===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulationTest.h"

using namespace mlir::moe;

namespace {

constexpr uint32_t kM = 128, kN = 64, kK = 160, kStored = 100;
constexpr float kUntouched = 77;

/// Operands and results of Inputs/ampere.mlir, two by two blocks.
struct Problem {
  std::vector<uint16_t> a, b;
  std::vector<float> c, expected;

  Problem() : a(kM * kK), b(kN * kK), c(kM * kN, kUntouched), expected(c) {
    for (uint32_t i = 0; i < a.size(); ++i)
      a[i] = toBfloat16(smallNumber(i));
    for (uint32_t i = 0; i < b.size(); ++i)
      b[i] = toBfloat16(smallNumber(i + 1000003));
    for (uint32_t m = 0; m < kStored; ++m)
      for (uint32_t n = 0; n < kN; ++n) {
        float sum = 0;
        for (uint32_t k = 0; k < kK; ++k)
          sum += smallNumber(m * kK + k) * smallNumber(n * kK + k + 1000003);
        expected[m * kN + n] = sum;
      }
  }

  /// The error of a launch, or "wrong results", or "".
  std::string run(const Kernels &kernels, uint64_t seed) {
    std::fill(c.begin(), c.end(), kUntouched);
    MoEEmuBuffer buffers[] = {{a.data(), 2 * a.size(), 0, "A"},
                              {b.data(), 2 * b.size(), 0, "B"},
                              {c.data(), 4 * c.size(), 1, "C"}};
    MoEEmuLaunch launch = config(kN / 32, 128, /*shared=*/2 * 6144, seed);
    launch.grid[1] = kM / 64;
    launch.buffers = buffers;
    launch.num_buffers = 3;
    uint32_t k = kK, n = kN, rows = kStored;
    void *pa = a.data(), *pb = b.data(), *pc = c.data();
    std::string error =
        kernels.launch("gemm", launch, {&pa, &pb, &pc, &k, &n, &rows});
    if (!error.empty())
      return error;
    return c == expected ? "" : "wrong results";
  }
};

TEST(Ampere, IsRightUnderEachSchedule) {
  auto kernels = Kernels::compile(readInput("ampere.mlir"));
  ASSERT_TRUE(kernels);
  Problem problem;
  for (uint64_t seed = 0; seed < 25; ++seed)
    EXPECT_EQ(problem.run(*kernels, seed), "") << "seed " << seed;
}

class AmpereBugs : public ::testing::TestWithParam<Bug> {};

TEST_P(AmpereBugs, AreCaughtUnderEachSchedule) {
  Problem problem;
  expectCaught(GetParam(), "ampere.mlir", problem);
}

INSTANTIATE_TEST_SUITE_P(
    All, AmpereBugs,
    ::testing::Values(
        Bug{"wait", "", "", "copy in flight: ldmatrix"},
        // One group too many may be in flight.
        Bug{"wait", "group 1", "group 2", "copy in flight: ldmatrix"},
        // The copies of the thread are there, those of the others are not.
        Bug{"full", "", "", "data race: ldmatrix"},
        // The stage is overwritten while others still read it.
        Bug{"empty", "", "", "data race: cp.async"},
        // bar.sync of half the block.
        Bug{"full", "nvvm.barrier0",
            "nvvm.barrier id = %c1 number_of_threads = %c64",
            "ldmatrix of shared memory"},
        // Both stages in one place.
        Bug{"stage", "arith.andi %next, %c1", "arith.andi %next, %c0",
            "copy in flight: cp.async"},
        Bug{"place", "@swizzle", "@plain", "wrong results"},
        Bug{"pair", "%b0, %b2", "%b0, %b1", "wrong results"},
        // Three bytes of each chunk.
        Bug{"bytes", "%ina, %c16, %c0", "%ina, %c3, %c0", "wrong results"},
        Bug{"row", "%inb, %mb, %c0", "%inb, %stageBytes, %c0",
            "out of bounds"}));

} // namespace
