//===- HopperTest.cpp - TMA, mbarriers and wgmma, and their bugs ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulationTest.h"

using namespace mlir::moe;

namespace {

constexpr uint32_t kM = 128, kN = 128, kK = 256;
constexpr uint32_t kBfloat16Type = 9; // CU_TENSOR_MAP_DATA_TYPE_BFLOAT16

struct alignas(64) Map {
  char bytes[128];
};

/// A map of a matrix with rows of kK bf16, in boxes of 64 rows of 128 bytes.
Map encode(std::vector<uint16_t> &matrix, uint64_t rows, uint32_t swizzle) {
  Map map;
  uint64_t dims[] = {kK, rows}, strides[] = {2 * kK};
  uint32_t box[] = {64, 64}, steps[] = {1, 1};
  EXPECT_EQ(moe_emu_encode_tensor_map(&map, kBfloat16Type, 2, matrix.data(),
                                      dims, strides, box, steps, 0, swizzle),
            0);
  return map;
}

/// Operands and results of Inputs/hopper.mlir, two by two blocks. The last rows
/// of A do not exist: the copy reads zeros.
struct Problem {
  static constexpr uint32_t kRows = 100;
  std::vector<uint16_t> a, b;
  std::vector<float> c, expected;

  Problem() : a(kRows * kK), b(kN * kK), c(kM * kN), expected(kM * kN) {
    for (uint32_t i = 0; i < a.size(); ++i)
      a[i] = toBfloat16(smallNumber(i));
    for (uint32_t i = 0; i < b.size(); ++i)
      b[i] = toBfloat16(smallNumber(i + 1000003));
    for (uint32_t m = 0; m < kRows; ++m)
      for (uint32_t n = 0; n < kN; ++n) {
        float sum = 0;
        for (uint32_t k = 0; k < kK; ++k)
          sum += smallNumber(m * kK + k) * smallNumber(n * kK + k + 1000003);
        expected[m * kN + n] = sum;
      }
  }

  /// The error of a launch, or "wrong results", or "".
  std::string run(const Kernels &kernels, uint64_t seed, uint32_t swizzle = 3) {
    std::fill(c.begin(), c.end(), 77.0f);
    MoEEmuBuffer buffers[] = {{a.data(), 2 * a.size(), 0, "A"},
                              {b.data(), 2 * b.size(), 0, "B"},
                              {c.data(), 4 * c.size(), 1, "C"}};
    MoEEmuLaunch launch = config(kN / 64, 256, /*shared=*/32768 + 32, seed);
    launch.grid[1] = kM / 64;
    launch.buffers = buffers;
    launch.num_buffers = 3;
    Map mapA = encode(a, kRows, swizzle), mapB = encode(b, kN, swizzle);
    uint32_t k = kK, n = kN;
    void *pc = c.data();
    std::string error =
        kernels.launch("gemm", launch, {&mapA, &mapB, &pc, &k, &n});
    if (!error.empty())
      return error;
    return c == expected ? "" : "wrong results";
  }
};

TEST(Hopper, IsRightUnderEachSchedule) {
  auto kernels = Kernels::compile(readInput("hopper.mlir"));
  ASSERT_TRUE(kernels);
  Problem problem;
  for (uint64_t seed = 0; seed < 25; ++seed)
    EXPECT_EQ(problem.run(*kernels, seed), "") << "seed " << seed;
}

TEST(Hopper, CopiesSwizzleAsTheMapSays) {
  auto kernels = Kernels::compile(readInput("hopper.mlir"));
  ASSERT_TRUE(kernels);
  Problem problem;
  EXPECT_EQ(problem.run(*kernels, 1, /*swizzle=*/0), "wrong results");
}

class HopperBugs : public ::testing::TestWithParam<Bug> {};

TEST_P(HopperBugs, AreCaughtUnderEachSchedule) {
  Problem problem;
  expectCaught(GetParam(), "hopper.mlir", problem);
}

INSTANTIATE_TEST_SUITE_P(
    All, HopperBugs,
    ::testing::Values(
        // Reads a stage that has not been loaded.
        Bug{"full", "", "", "wgmma of "},
        // Loads a stage that is still read.
        Bug{"empty", "", "", "kernel 'gemm'"},
        // The phase ends after one of two copies.
        Bug{"bytes", "16384", "8192", "kernel 'gemm'"},
        // The phase never ends.
        Bug{"bytes", "16384", "16400", "deadlock"},
        Bug{"expect", "", "", "deadlock"}, Bug{"loadB", "", "", "deadlock"},
        // The reader expects rows of 64 bytes.
        Bug{"layout", "4611686293305360384", "-9223371761976803328",
            "wrong results"},
        // Barriers are used before they are initialized.
        Bug{"init", "", "", "mbarrier"},
        // A release too few, and one too many.
        Bug{"count", "4", "5", "deadlock"},
        Bug{"count", "4", "3", "kernel 'gemm'"},
        // The stage is given back while wgmma reads it.
        Bug{"wait", "aligned 0", "aligned 1", "bulk copy of shared memory"},
        Bug{"wait", "", "", "in flight"}, Bug{"release", "", "", "deadlock"}));

/// wgmma.wait_group is of one warp: that one warp's reads are done says nothing
/// of the others'. Found by order, not by luck of the schedule.
TEST(Hopper, OneReleaseForAllWarpsIsARace) {
  std::string text = mutate(readInput("hopper.mlir"), "count", "4", "1");
  text = mutate(text, "releasers", "%one", "%leader");
  auto kernels = Kernels::compile(text);
  ASSERT_TRUE(kernels);
  Problem problem;
  for (uint64_t seed = 0; seed < 25; ++seed) {
    std::string error = problem.run(*kernels, seed);
    EXPECT_NE(error.find("shared memory"), std::string::npos)
        << "seed " << seed << ": '" << error << "'";
  }
}

/// Operands that threads store, without a swizzle: ones, 64 x 16 and 8 x 16.
constexpr char kStored[] = R"(
!ACC = !llvm.struct<(f32, f32, f32, f32)>
gpu.module @kernels {
  llvm.mlir.global external @smem() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
  llvm.func @k(%out: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %c4 = arith.constant 4 : i32
    %c16 = arith.constant 16 : i32
    %c2048 = arith.constant 2048 : i32
    %ones = arith.constant dense<1065369472> : vector<4xi32>
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %byte = arith.shli %tid, %c4 : i32
    %a = llvm.getelementptr %smem[%byte] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
    llvm.store %ones, %a : vector<4xi32>, !llvm.ptr<3>
    %b = llvm.getelementptr %a[2048] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
    %few = arith.cmpi ult, %tid, %c16 : i32
    scf.if %few {
      llvm.store %ones, %b : vector<4xi32>, !llvm.ptr<3>
    }
    nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>} // MARK fence
    nvvm.barrier0 // MARK barrier
    %rest = arith.constant 68720001024 : i64
    %mask = arith.constant 16383 : i64
    %four = arith.constant 4 : i64
    %startB = llvm.getelementptr %smem[2048] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
    %wa = llvm.ptrtoint %smem : !llvm.ptr<3> to i64
    %wb = llvm.ptrtoint %startB : !llvm.ptr<3> to i64
    %ua = arith.shrui %wa, %four : i64
    %ub = arith.shrui %wb, %four : i64
    %sa = arith.andi %ua, %mask : i64
    %sb = arith.andi %ub, %mask : i64
    %da = arith.ori %sa, %rest : i64
    %db = arith.ori %sb, %rest : i64
    %zero = llvm.mlir.zero : !ACC
    nvvm.wgmma.fence.aligned
    %d = nvvm.wgmma.mma_async %da, %db, %zero, <m = 64, n = 8, k = 16>, D [<f32>, <one>], A [<bf16>, <one>, <row>], B [<bf16>, <one>, <col>] : !ACC -> !ACC
    nvvm.wgmma.commit.group.sync.aligned
    nvvm.wgmma.wait.group.sync.aligned 0
    %v = llvm.extractvalue %d[3] : !ACC
    %p = llvm.getelementptr %out[%tid] : (!llvm.ptr, i32) -> !llvm.ptr, f32
    llvm.store %v, %p : f32, !llvm.ptr
    llvm.return
  }
})";

std::string runStored(const std::string &text, uint64_t seed,
                      std::vector<float> &out) {
  auto kernels = Kernels::compile(text);
  if (!kernels)
    return "not compiled";
  void *p = out.data();
  return kernels->launch("k", config(1, 128, 4096, seed), {&p});
}

TEST(Hopper, StoredOperandsNeedAProxyFence) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::vector<float> out(128);
    EXPECT_EQ(runStored(kStored, seed, out), "");
    EXPECT_EQ(out, std::vector<float>(128, 16));
    std::string error = runStored(mutate(kStored, "fence"), seed, out);
    EXPECT_NE(error.find("missing proxy fence: wgmma"), std::string::npos)
        << error;
    error = runStored(mutate(kStored, "barrier"), seed, out);
    EXPECT_NE(error.find("data race: wgmma"), std::string::npos) << error;
  }
}

} // namespace
