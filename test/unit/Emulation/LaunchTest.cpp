//===- LaunchTest.cpp - What a launch checks, and what blocks share -------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulationTest.h"

#include <cmath>

using namespace mlir::moe;

namespace {

/// One block's kernels in a gpu.module with dynamic shared memory.
std::string device(const std::string &body) {
  return R"(gpu.module @kernels {
  llvm.mlir.global external @smem() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
  llvm.mlir.global internal @table() {addr_space = 3 : i32} : !llvm.array<8 x i32>
)" + body +
         "}";
}

std::string kernel(const std::string &body) {
  return device("llvm.func @k(%out: !llvm.ptr) attributes {gpu.kernel, "
                "nvvm.kernel, nvvm.maxntid = array<i32: 128, 1, 1>} {\n" +
                body + "\nllvm.return }\n");
}

/// Compiles the body of a kernel and launches 64 threads, `out` being 64 i32.
class Launch : public ::testing::Test {
protected:
  std::string run(const std::string &body, const MoEEmuLaunch &launch) {
    auto kernels = Kernels::compile(kernel(body));
    if (!kernels)
      return "not compiled";
    MoEEmuBuffer buffer = {out.data(), 4 * out.size(), 1, "out"};
    MoEEmuLaunch with = launch;
    with.buffers = &buffer;
    with.num_buffers = 1;
    void *p = out.data();
    return kernels->launch("k", with, {&p});
  }
  std::string run(const std::string &body) { return run(body, config(1, 64)); }

  std::vector<uint32_t> out = std::vector<uint32_t>(64);
};

void expectText(const std::string &text, const char *part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST_F(Launch, ChecksItsConfiguration) {
  auto kernels = Kernels::compile(kernel(""));
  ASSERT_TRUE(kernels);
  auto error = [&](const MoEEmuLaunch &launch) {
    void *p = out.data();
    return kernels->launch("k", launch, {&p});
  };
  EXPECT_EQ(error(config(1, 128)), "");
  expectText(error(config(0, 32)), "launch of 'k': grid dimension x is 0");
  expectText(error(config(1, 0)), "block dimension x is 0");
  expectText(error(config(1, 2048)), "2048 threads a block; a GPU takes 1024");
  expectText(error(config(1, 256)), "256 threads a block, but the kernel was "
                                    "compiled for 128 at most");
  expectText(error(config(1, 32, 240 << 10)), "the limit is 232448");
  MoEEmuLaunch small = config(1, 32, 100 << 10);
  small.shared_limit = 99 << 10;
  expectText(error(small), "the limit is 101376");
  MoEEmuLaunch cluster = config(3, 32);
  cluster.cluster[0] = 2;
  expectText(error(cluster), "no multiple of the cluster's 2");
}

TEST_F(Launch, SharedMemoryIsBornAsNaN) {
  EXPECT_EQ(run(R"(
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %from = llvm.getelementptr %smem[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    %v = llvm.load %from : !llvm.ptr<3> -> i32
    %to = llvm.getelementptr %out[%tid] : (!llvm.ptr, i32) -> !llvm.ptr, i32
    llvm.store %v, %to : i32, !llvm.ptr)",
                config(1, 64, 256)),
            "");
  for (uint32_t word : out) {
    float value;
    memcpy(&value, &word, 4);
    EXPECT_TRUE(std::isnan(value));
  }
}

TEST_F(Launch, StaticAndDynamicSharedMemoryAreApart) {
  EXPECT_EQ(run(R"(
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %table = llvm.mlir.addressof @table : !llvm.ptr<3>
    %a = llvm.ptrtoint %smem : !llvm.ptr<3> to i32
    %b = llvm.ptrtoint %table : !llvm.ptr<3> to i32
    %d = llvm.sub %a, %b : i32
    %back = llvm.inttoptr %a : i32 to !llvm.ptr<3>
    llvm.store %d, %back : i32, !llvm.ptr<3>
    %v = llvm.load %back : !llvm.ptr<3> -> i32
    llvm.store %v, %out : i32, !llvm.ptr)",
                config(1, 1, 256)),
            "");
  EXPECT_EQ(out[0], 1024u); // the table, then alignment
}

TEST_F(Launch, FindsAccessesOutOfBounds) {
  const char *global = R"(
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %to = llvm.getelementptr %out[%tid] : (!llvm.ptr, i32) -> !llvm.ptr, i32
    llvm.store %tid, %to : i32, !llvm.ptr)";
  EXPECT_EQ(run(global, config(1, 64)), "");
  expectText(run(global, config(1, 65)),
             "write of 4 bytes of global memory out of bounds: at byte 256 of "
             "buffer 0 (out), which has 256");
  const char *shared = R"(
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %to = llvm.getelementptr %smem[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    llvm.store %tid, %to : i32, !llvm.ptr<3>)";
  EXPECT_EQ(run(shared, config(1, 64, 256)), "");
  expectText(run(shared, config(1, 64, 252)),
             "write of 4 bytes of shared memory out of bounds: at byte 2300");
}

TEST_F(Launch, GenericPointersToSharedMemoryAreChecked) {
  expectText(run(R"(
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %generic = llvm.addrspacecast %smem : !llvm.ptr<3> to !llvm.ptr
    llvm.store %tid, %generic : i32, !llvm.ptr)",
                 config(1, 64, 256)),
             "data race");
}

TEST_F(Launch, AtomicsAreNoRace) {
  EXPECT_EQ(run(R"(
    %one = llvm.mlir.constant(1 : i32) : i32
    %zero = llvm.mlir.constant(0 : i32) : i32
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %first = llvm.icmp "eq" %tid, %zero : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    scf.if %first { llvm.store %zero, %smem : i32, !llvm.ptr<3> }
    nvvm.barrier0
    %old = llvm.atomicrmw add %smem, %one monotonic : !llvm.ptr<3>, i32
    nvvm.barrier0
    scf.if %first {
      %sum = llvm.load %smem : !llvm.ptr<3> -> i32
      llvm.store %sum, %out : i32, !llvm.ptr
    })",
                config(1, 64, 16, /*seed=*/4)),
            "");
  EXPECT_EQ(out[0], 64u);
}

TEST_F(Launch, NeighboursOfTwoBytesAreNoRace) {
  EXPECT_EQ(run(R"(
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %to = llvm.getelementptr %smem[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i16
    %v = llvm.trunc %tid : i32 to i16
    llvm.store %v, %to : i16, !llvm.ptr<3>)",
                config(1, 64, 128)),
            "");
}

TEST_F(Launch, FindsDeadlocks) {
  std::string error = run(R"(
    %zero = llvm.mlir.constant(0 : i32) : i32
    %c1 = llvm.mlir.constant(1 : i32) : i32
    %c64 = llvm.mlir.constant(64 : i32) : i32
    %warp = nvvm.read.ptx.sreg.warpid : i32
    %first = llvm.icmp "eq" %warp, %zero : i32
    scf.if %first { nvvm.barrier id = %c1 number_of_threads = %c64 })");
  expectText(error, "deadlock");
  expectText(error, "warp 0 from lane 0: bar.sync 1, nvvm.barrier");
}

TEST_F(Launch, FindsDivergedWarps) {
  std::string head = R"(
    %zero = llvm.mlir.constant(0 : i32) : i32
    %all = llvm.mlir.constant(-1 : i32) : i32
    %lane = nvvm.read.ptx.sreg.laneid : i32
    %first = llvm.icmp "eq" %lane, %zero : i32
)";
  expectText(run(head + "scf.if %first { nvvm.barrier0 } else { "
                        "nvvm.barrier0 }"),
             "diverged warp: its lanes come to barrier 0");
  expectText(run(head + R"(scf.if %first {
      nvvm.bar.warp.sync %all : i32
    } else {
      %v = nvvm.vote.sync ballot %all, %first -> i32
    })"),
             "diverged warp: this lane comes to");
  expectText(run(head + "scf.if %first { nvvm.bar.warp.sync %all : i32 }"),
             "ended");
}

TEST_F(Launch, FindsCopiesInFlightAtTheEnd) {
  std::string copy = R"(
    %smem = llvm.mlir.addressof @smem : !llvm.ptr<3>
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %to = llvm.getelementptr %smem[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    %g = llvm.addrspacecast %out : !llvm.ptr to !llvm.ptr<1>
    nvvm.cp.async.shared.global %to, %g, 4, cache = ca : !llvm.ptr<3>, !llvm.ptr<1>
)";
  MoEEmuLaunch launch = config(1, 64, 256);
  expectText(run(copy, launch), "commit it and wait");
  expectText(run(copy + "nvvm.cp.async.commit.group", launch),
             "wait for all groups before the end");
  EXPECT_EQ(run(copy + "nvvm.cp.async.commit.group\n"
                       "nvvm.cp.async.wait.group 0",
                launch),
            "");
}

/// Blocks that wait for each other need as many slots as there are blocks.
TEST_F(Launch, ResidentBlocksRunTogether) {
  const char *handOff = R"(
    %zero = llvm.mlir.constant(0 : i32) : i32
    %one = llvm.mlir.constant(1 : i32) : i32
    %all = llvm.mlir.constant(4 : i32) : i32
    %old = llvm.atomicrmw add %out, %one acq_rel : !llvm.ptr, i32
    scf.while : () -> () {
      %seen = llvm.load %out atomic acquire {alignment = 4 : i64} : !llvm.ptr -> i32
      %wait = llvm.icmp "ult" %seen, %all : i32
      scf.condition(%wait)
    } do { scf.yield })";
  for (uint64_t seed = 0; seed < 5; ++seed) {
    out[0] = 0;
    MoEEmuLaunch launch = config(4, 1, 0, seed);
    launch.resident_blocks = 4;
    EXPECT_EQ(run(handOff, launch), "");
  }
  out[0] = 0;
  MoEEmuLaunch launch = config(4, 1);
  launch.resident_blocks = 2;
  expectText(run(handOff, launch), "no progress");
}

TEST_F(Launch, ReductionsOfBarriers) {
  EXPECT_EQ(run(R"(
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %c3 = llvm.mlir.constant(3 : i32) : i32
    %zero = llvm.mlir.constant(0 : i32) : i32
    %low = llvm.and %tid, %c3 : i32
    %is = llvm.icmp "eq" %low, %zero : i32
    %p = llvm.zext %is : i1 to i32
    %n = nvvm.barrier #nvvm.reduction<popc> %p -> i32
    %to = llvm.getelementptr %out[%tid] : (!llvm.ptr, i32) -> !llvm.ptr, i32
    llvm.store %n, %to : i32, !llvm.ptr)",
                config(1, 64, 0, 3)),
            "");
  for (uint32_t word : out)
    EXPECT_EQ(word, 16u);
}

} // namespace
