//===- CpAsync.cpp - cp.async: copies that a thread waits for -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

#include <cstring>
#include <utility>

using namespace moe::emulation;

/// Data is in shared memory from now on, as if its thread had stored it.
static void land(Thread &thread, CpAsync &copy, Epoch epoch) {
  if (copy.landed)
    return;
  copy.landed = true;
  memcpy(copy.destination, copy.source, copy.copied);
  memset(copy.destination + copy.copied, 0, copy.bytes - copy.copied);
  thread.block->shadow->land(thread.block->offset(copy.destination), copy.bytes,
                             {epoch, copy.site});
}

/// Lands the copies of all but the `keep` newest groups, in any order.
static void landGroups(Thread &thread, size_t keep) {
  std::vector<std::shared_ptr<CpAsync>> landing;
  while (thread.copyGroups.size() > keep) {
    auto &group = thread.copyGroups.front();
    landing.insert(landing.end(), group.begin(), group.end());
    thread.copyGroups.pop_front();
  }
  for (size_t i = landing.size(); i > 1; --i)
    std::swap(landing[i - 1], landing[machine->random(i)]);
  Epoch now = {thread.actor, thread.clock[thread.actor]};
  for (const auto &copy : landing)
    land(thread, *copy, now);
}

extern "C" {

/// `copied` bytes of the source, then zeros up to `bytes`.
void moe_emu_cp_async(char *destination, const char *source, uint32_t bytes,
                      uint32_t copied, const char *site) {
  Thread &thread = self();
  Block &block = *thread.block;
  if (!block.contains(destination))
    machine->fail(site, "cp.async to memory that is not this block's shared "
                        "memory");
  uint32_t offset = block.offset(destination);
  if (offset < kReservedBytes || offset + bytes > block.sharedEnd)
    machine->fail(
        site,
        "cp.async of %u bytes to shared memory out of bounds: at byte "
        "%u, but the block has [%u, %u)",
        bytes, offset, kReservedBytes, block.sharedEnd);
  if (offset % bytes || reinterpret_cast<uintptr_t>(source) % bytes)
    machine->fail(site,
                  "cp.async of %u bytes from or to an address that is no "
                  "multiple of it",
                  bytes);
  if (copied > bytes)
    machine->fail(site, "cp.async of %u bytes has a source of %u", bytes,
                  copied);
  if (copied) {
    machine->checkGlobal(source, copied, /*write=*/false, site);
    machine->touchGlobal(source, copied, Access::Read, "cp.async", site);
  }
  Epoch now = {thread.actor, thread.clock[thread.actor]};
  if (Conflict conflict =
          block.shadow->issue(offset, bytes, {now, site}, thread.clock,
                              /*needsFence=*/false))
    machine->fail(site, "%s",
                  machine->explain("cp.async", block, conflict).c_str());
  thread.copies.push_back(std::make_shared<CpAsync>(
      CpAsync{destination, source, bytes, copied, site}));
}

void moe_emu_cp_async_commit() {
  Thread &thread = self();
  thread.copyGroups.push_back(std::move(thread.copies));
  thread.copies.clear();
  machine->maybeYield();
}

void moe_emu_cp_async_wait(uint32_t keep) { landGroups(self(), keep); }

/// Waits for copies that were not committed, too.
void moe_emu_cp_async_wait_all() {
  Thread &thread = self();
  thread.copyGroups.push_back(std::move(thread.copies));
  thread.copies.clear();
  landGroups(thread, 0);
}

/// The mbarrier gets an arrival of this thread once its copies have landed.
void moe_emu_cp_async_mbarrier_arrive(void *address, uint8_t noinc,
                                      const char *site) {
  Thread &thread = self();
  MBarrier &barrier = machine->findBarrier(address, site);
  std::vector<std::shared_ptr<CpAsync>> copies = thread.copies;
  for (const auto &group : thread.copyGroups)
    copies.insert(copies.end(), group.begin(), group.end());
  for (const auto &copy : copies)
    copy->tracked = true;
  if (!noinc)
    ++barrier.pending;
  VectorClock known = thread.clock;
  Epoch epoch = {thread.actor, thread.clock[thread.actor]};
  machine->tick(thread);
  ++thread.block->copiesInFlight;
  machine->later([&thread, &barrier, copies, known, epoch] {
    --thread.block->copiesInFlight;
    for (const auto &copy : copies)
      land(thread, *copy, epoch);
    barrier.arriving.join(known);
    if (!barrier.pending)
      return machine->report(nullptr, "mbarrier: cp.async arrives on a phase "
                                      "that has all its arrivals");
    --barrier.pending;
    barrier.finishPhase();
  });
}

} // extern "C"
