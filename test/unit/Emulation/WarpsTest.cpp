//===- WarpsTest.cpp - Shuffles, votes, matches, reductions ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulationTest.h"

#include <cmath>

using namespace mlir::moe;

namespace {

/// Runs one warp; `body` defines %r : i32 from %lane, %all and constants, and
/// each lane stores its own.
std::vector<uint32_t> runWarp(const std::string &body, uint64_t seed = 1) {
  auto kernels = Kernels::compile(R"(gpu.module @kernels {
  llvm.func @k(%out: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
    %lane = nvvm.read.ptx.sreg.laneid : i32
    %all = llvm.mlir.constant(-1 : i32) : i32
    %c1 = llvm.mlir.constant(1 : i32) : i32
    %c3 = llvm.mlir.constant(3 : i32) : i32
    %c5 = llvm.mlir.constant(5 : i32) : i32
    %c10 = llvm.mlir.constant(10 : i32) : i32
    %clamp31 = llvm.mlir.constant(31 : i32) : i32
    %clamp0 = llvm.mlir.constant(0 : i32) : i32
    %square = llvm.mul %lane, %lane : i32
)" + body + R"(
    %to = llvm.getelementptr %out[%lane] : (!llvm.ptr, i32) -> !llvm.ptr, i32
    llvm.store %r, %to : i32, !llvm.ptr
    llvm.return
  }
})");
  std::vector<uint32_t> out(32);
  void *p = out.data();
  if (kernels) {
    EXPECT_EQ(kernels->launch("k", config(1, 32, 0, seed), {&p}), "");
  }
  return out;
}

template <typename Fn>
void expectLanes(const std::vector<uint32_t> &out, Fn expected) {
  for (uint32_t lane = 0; lane < 32; ++lane)
    EXPECT_EQ(out[lane], uint32_t(expected(lane))) << "lane " << lane;
}

TEST(Warps, Shuffle) {
  expectLanes(runWarp("%r = nvvm.shfl.sync bfly %all, %square, %c5, %clamp31 : "
                      "i32 -> i32"),
              [](uint32_t l) { return (l ^ 5) * (l ^ 5); });
  expectLanes(runWarp("%r = nvvm.shfl.sync up %all, %square, %c3, %clamp0 : "
                      "i32 -> i32"),
              [](uint32_t l) { return l < 3 ? l * l : (l - 3) * (l - 3); });
  expectLanes(runWarp("%r = nvvm.shfl.sync down %all, %square, %c3, %clamp31 : "
                      "i32 -> i32"),
              [](uint32_t l) { return l > 28 ? l * l : (l + 3) * (l + 3); });
  expectLanes(runWarp("%r = nvvm.shfl.sync idx %all, %square, %c10, %clamp31 : "
                      "i32 -> i32"),
              [](uint32_t) { return 100; });
}

TEST(Warps, ShuffleSaysWhetherTheSourceExists) {
  expectLanes(runWarp(R"(
    %s = nvvm.shfl.sync up %all, %square, %c3, %clamp0 {return_value_and_is_valid} : i32 -> !llvm.struct<(i32, i1)>
    %valid = llvm.extractvalue %s[1] : !llvm.struct<(i32, i1)>
    %r = llvm.zext %valid : i1 to i32)"),
              [](uint32_t l) { return l >= 3; });
}

TEST(Warps, Vote) {
  const char *odd = R"(
    %low = llvm.and %lane, %c1 : i32
    %odd = llvm.icmp "eq" %low, %c1 : i32
)";
  expectLanes(runWarp(std::string(odd) +
                      "%r = nvvm.vote.sync ballot %all, %odd -> i32"),
              [](uint32_t) { return 0xaaaaaaaa; });
  auto voted = [&](const char *kind) {
    return runWarp(std::string(odd) + "%v = nvvm.vote.sync " + kind +
                   " %all, %odd -> i1\n%r = llvm.zext %v : i1 to i32");
  };
  expectLanes(voted("any"), [](uint32_t) { return 1; });
  expectLanes(voted("all"), [](uint32_t) { return 0; });
  expectLanes(voted("uni"), [](uint32_t) { return 0; });
}

TEST(Warps, Match) {
  expectLanes(runWarp(R"(
    %low = llvm.and %lane, %c3 : i32
    %r = nvvm.match.sync any %all, %low : i32 -> i32)"),
              [](uint32_t l) { return 0x11111111u << (l & 3); });
}

TEST(Warps, Redux) {
  expectLanes(runWarp("%r = nvvm.redux.sync umax %square, %all : i32 -> i32"),
              [](uint32_t) { return 961; });
  expectLanes(runWarp(R"(
    %n = llvm.sub %c5, %lane : i32
    %r = nvvm.redux.sync min %n, %all : i32 -> i32)"),
              [](uint32_t) { return -26; });
  expectLanes(runWarp("%r = nvvm.redux.sync add %lane, %all : i32 -> i32"),
              [](uint32_t) { return 496; });
}

TEST(Warps, ElectsOneLaneAndTheSameOne) {
  for (uint64_t seed : {0, 5, 31}) {
    std::vector<uint32_t> out = runWarp(R"(
    %e = nvvm.elect.sync -> i1
    %f = nvvm.elect.sync -> i1
    %a = llvm.zext %e : i1 to i32
    %b = llvm.zext %f : i1 to i32
    %r = llvm.add %a, %b : i32)",
                                        seed);
    uint32_t elected = 0;
    for (uint32_t lane = 0; lane < 32; ++lane)
      elected += out[lane] == 2;
    EXPECT_EQ(elected, 1u);
  }
}

TEST(Warps, HalvesMeetApart) {
  expectLanes(runWarp(R"(
    %c16 = llvm.mlir.constant(16 : i32) : i32
    %lower = llvm.icmp "ult" %lane, %c16 : i32
    %low = llvm.mlir.constant(65535 : i32) : i32
    %high = llvm.mlir.constant(-65536 : i32) : i32
    %r = scf.if %lower -> i32 {
      %s = nvvm.redux.sync add %lane, %low : i32 -> i32
      scf.yield %s : i32
    } else {
      %s = nvvm.redux.sync add %lane, %high : i32 -> i32
      scf.yield %s : i32
    })"),
              [](uint32_t l) { return l < 16 ? 120 : 376; });
}

TEST(Warps, Approximations) {
  std::vector<uint32_t> out = runWarp(R"(
    %x = llvm.sitofp %lane : i32 to f32
    %e = llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f"(%x) : (f32) -> f32
    %i = nvvm.rcp.approx.ftz.f %e : f32
    %r = llvm.bitcast %i : f32 to i32)");
  for (uint32_t lane = 0; lane < 32; ++lane) {
    float value;
    memcpy(&value, &out[lane], 4);
    EXPECT_EQ(value, std::exp2(-float(lane)));
  }
}

} // namespace
