//===- Barriers.cpp - bar.sync and bar.arrive -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

using namespace moe::emulation;

void Machine::finishNamedBarrier(Block &block, NamedBarrier &barrier) {
  if (!barrier.arrived)
    return;
  uint32_t exited = 0;
  if (barrier.all)
    for (const auto &thread : block.threads)
      exited += thread->done;
  if (barrier.arrived + exited < barrier.expected)
    return;
  uint32_t threads = barrier.arrived, ones = barrier.ones;
  for (Thread *thread : barrier.waiting) {
    thread->clock.join(barrier.joined);
    tick(*thread);
    thread->out[0] = ones;
    thread->out[1] = threads;
    wake(thread);
  }
  barrier = NamedBarrier();
  progress();
}

/// Counts the running thread in. `expected` 0: all threads of the block.
static NamedBarrier &arrive(uint32_t id, uint32_t expected, const char *site,
                            bool waits, bool one) {
  Thread &thread = self();
  Block &block = *thread.block;
  if (id >= block.barriers.size())
    machine->fail(site, "barrier %u: a block has 16, from 0 to 15", id);
  if (expected % kWarpSize)
    machine->fail(site, "barrier %u for %u threads: not a multiple of 32", id,
                  expected);
  NamedBarrier &barrier = block.barriers[id];
  uint32_t threads = expected ? expected : machine->threadsPerBlock;
  if (threads > machine->threadsPerBlock)
    machine->fail(site, "barrier %u waits for %u threads, but the block has %u",
                  id, threads, machine->threadsPerBlock);
  if (!barrier.arrived) {
    barrier.expected = threads;
    barrier.all = !expected;
  }
  if (barrier.expected != threads || barrier.all != !expected)
    machine->fail(site, "barrier %u: this thread expects %u threads, others %u",
                  id, threads, barrier.expected);
  // The lanes of a warp come together, by one instruction.
  auto [there, first] = barrier.sites.try_emplace(thread.warpIndex(), site);
  if (!first && there->second != site)
    machine->fail(site,
                  "diverged warp: its lanes come to barrier %u by different "
                  "instructions\n  there: %s",
                  id, there->second);
  barrier.joined.join(thread.clock);
  machine->tick(thread);
  barrier.ones += one;
  ++barrier.arrived;
  if (waits)
    barrier.waiting.push_back(&thread);
  return barrier;
}

/// Waits for the barrier; `one` is the predicate of a reduction.
static void sync(uint32_t id, uint32_t expected, const char *site, bool one) {
  Thread &thread = self();
  NamedBarrier &barrier = arrive(id, expected, site, /*waits=*/true, one);
  thread.runnable = true; // no wake while it runs
  machine->finishNamedBarrier(*thread.block, barrier);
  thread.runnable = false;
  if (barrier.arrived) // else it was the last one, and the barrier is new again
    machine->block("bar.sync", site, id);
}

extern "C" {

void moe_emu_bar_sync(uint32_t id, uint32_t expected, const char *site) {
  sync(id, expected, site, false);
}

/// Kinds: popc, and, or.
uint32_t moe_emu_bar_red(uint32_t id, uint32_t expected, uint32_t kind,
                         uint32_t predicate, const char *site) {
  sync(id, expected, site, predicate != 0);
  uint32_t ones = self().out[0], threads = self().out[1];
  switch (kind) {
  case 0:
    return ones;
  case 1:
    return ones == threads;
  default:
    return ones != 0;
  }
}

void moe_emu_bar_arrive(uint32_t id, uint32_t expected, const char *site) {
  NamedBarrier &barrier = arrive(id, expected, site, /*waits=*/false, false);
  machine->finishNamedBarrier(*self().block, barrier);
  machine->maybeYield();
}

} // extern "C"
