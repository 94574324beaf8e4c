//===- MBarriers.cpp - mbarriers: arrivals and bytes of a phase -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

using namespace moe::emulation;

/// The largest counts that an mbarrier holds.
static constexpr uint32_t kMostArrivals = (1 << 20) - 1;

MBarrier &Machine::findBarrier(const void *address, const char *site) {
  Block *block = blockOf(address);
  if (!block)
    fail(site, "mbarrier at an address that is not shared memory");
  auto found = block->mbarriers.find(block->offset(address));
  if (found == block->mbarriers.end())
    fail(site, "no mbarrier was initialized at byte %u of shared memory",
         block->offset(address));
  const Toucher &init = found->second.initialized;
  if (!current->clock.knows(init.epoch))
    fail(site,
         "the mbarrier at byte %u is used before its initialization is known "
         "here: a barrier of the block is missing\n  initialized at %s",
         found->first, init.site);
  return found->second;
}

void MBarrier::finishPhase() {
  if (pending || bytes)
    return;
  phase = !phase;
  pending = expected;
  completed = arriving;
  arriving.clear();
  for (Thread *thread : waiting)
    machine->wake(thread);
  waiting.clear();
  machine->progress();
}

void MBarrier::completeBytes(int64_t count, Epoch epoch) {
  bytes -= count;
  arriving.set(epoch);
  arriving.setFenced(epoch); // the async proxy wrote it
  finishPhase();
}

void MBarrier::checkFenced(const char *site) const {
  if (!isFenced)
    machine->fail(site,
                  "missing fence: a bulk copy completes on an mbarrier, and "
                  "neither fence.mbarrier_init nor fence.proxy.async lies "
                  "between its initialization and that\n  initialized at %s",
                  initialized.site);
}

static void arrive(MBarrier &barrier, uint32_t count, const char *site) {
  Thread &thread = self();
  if (count > barrier.pending)
    machine->fail(site,
                  "mbarrier: %u arrivals, but the phase expects only %u more "
                  "(of %u)",
                  count, barrier.pending, barrier.expected);
  barrier.arriving.join(thread.clock);
  machine->tick(thread);
  barrier.pending -= count;
  barrier.finishPhase();
}

static bool tryWait(MBarrier &barrier, uint32_t parity) {
  if (barrier.phase == (parity & 1))
    return false;
  self().clock.join(barrier.completed);
  return true;
}

extern "C" {

void moe_emu_mbarrier_init(void *address, uint32_t count, const char *site) {
  Thread &thread = self();
  Block &block = *thread.block;
  if (!block.contains(address))
    machine->fail(site, "mbarrier.init of memory that is not this block's "
                        "shared memory");
  uint32_t offset = block.offset(address);
  if (offset % 8 || offset < kReservedBytes || offset + 8 > block.sharedEnd)
    machine->fail(site,
                  "mbarrier.init at byte %u of shared memory: it needs 8 "
                  "aligned bytes in [%u, %u)",
                  offset, kReservedBytes, block.sharedEnd);
  if (!count || count > kMostArrivals)
    machine->fail(site, "mbarrier.init with a count of %u; 1 to %u are allowed",
                  count, kMostArrivals);
  Epoch now = {thread.actor, thread.clock[thread.actor]};
  if (Conflict conflict = block.shadow->touch(offset, 8, Access::Write,
                                              {now, site}, thread.clock))
    machine->fail(site, "%s",
                  machine->explain("mbarrier.init", block, conflict).c_str());
  block.shadow->reserve(offset, 8, true);
  if (block.barrierActors == kBarrierActors)
    machine->fail(site, "more than %u mbarriers a block", kBarrierActors);
  uint32_t blocks = block.cluster->blocks.size();
  uint32_t others = blocks * (machine->threadsPerBlock + block.warps.size());
  MBarrier barrier;
  barrier.expected = barrier.pending = count;
  barrier.copies = others + block.rank * kBarrierActors + block.barrierActors++;
  barrier.initialized = {now, site};
  barrier.arriving = VectorClock(block.cluster->actors);
  barrier.completed = barrier.arriving;
  block.mbarriers[offset] = std::move(barrier);
}

void moe_emu_mbarrier_inval(void *address, const char *site) {
  Block &block = *self().block;
  MBarrier &barrier = machine->findBarrier(address, site);
  if (!barrier.waiting.empty())
    machine->fail(site, "mbarrier.inval while %zu threads wait for it",
                  barrier.waiting.size());
  block.shadow->reserve(block.offset(address), 8, false);
  block.mbarriers.erase(block.offset(address));
}

void moe_emu_mbarrier_expect_tx(void *address, uint32_t bytes,
                                const char *site) {
  MBarrier &barrier = machine->findBarrier(address, site);
  if (bytes > kMostArrivals)
    machine->fail(site, "mbarrier: %u bytes a phase; %u at most", bytes,
                  kMostArrivals);
  barrier.expectBytes(bytes);
}

void moe_emu_mbarrier_complete_tx(void *address, uint32_t bytes,
                                  const char *site) {
  MBarrier &barrier = machine->findBarrier(address, site);
  barrier.bytes -= bytes;
  barrier.finishPhase();
}

/// Returns the phase that is arrived at, which test_wait takes.
uint64_t moe_emu_mbarrier_arrive(void *address, uint32_t count,
                                 const char *site) {
  machine->maybeYield();
  MBarrier &barrier = machine->findBarrier(address, site);
  uint64_t phase = barrier.phase;
  arrive(barrier, count, site);
  return phase;
}

uint64_t moe_emu_mbarrier_arrive_expect_tx(void *address, uint32_t bytes,
                                           const char *site) {
  machine->maybeYield();
  moe_emu_mbarrier_expect_tx(address, bytes, site);
  MBarrier &barrier = machine->findBarrier(address, site);
  uint64_t phase = barrier.phase;
  arrive(barrier, 1, site);
  return phase;
}

void moe_emu_mbarrier_wait(void *address, uint32_t parity, const char *site) {
  MBarrier &barrier = machine->findBarrier(address, site);
  while (!tryWait(barrier, parity)) {
    barrier.waiting.push_back(machine->current);
    machine->block(kMBarrierWait, site,
                   2 * uint64_t(machine->blockOf(address)->offset(address)) +
                       (parity & 1));
  }
}

uint8_t moe_emu_mbarrier_test(void *address, uint32_t parity,
                              const char *site) {
  machine->yield();
  return tryWait(machine->findBarrier(address, site), parity);
}

/// What this thread knows is visible to asynchronous readers from now on.
void moe_emu_fence_proxy_async() {
  Thread &thread = self();
  thread.clock.fence();
  machine->tick(thread);
  for (auto &[offset, barrier] : thread.block->mbarriers)
    barrier.isFenced |= thread.clock.knows(barrier.initialized.epoch);
}

/// The mbarriers that this thread has initialized are known to bulk copies.
void moe_emu_fence_mbarrier_init() {
  Thread &thread = self();
  for (auto &[offset, barrier] : thread.block->mbarriers)
    barrier.isFenced |= barrier.initialized.epoch.actor == thread.actor;
}

} // extern "C"
