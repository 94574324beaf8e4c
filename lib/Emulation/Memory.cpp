//===- Memory.cpp - Checks of loads, stores and atomics -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

using namespace moe::emulation;

static const char *nameOf(Access access) {
  switch (access) {
  case Access::Read:
    return "read";
  case Access::Write:
    return "write";
  case Access::Atomic:
    break;
  }
  return "atomic";
}

static void checkShared(Block &block, const void *address, uint32_t bytes,
                        Access access, const char *site) {
  Thread &thread = self();
  uint32_t offset = block.offset(address);
  if (offset < kReservedBytes || offset + bytes > block.sharedEnd)
    machine->fail(site,
                  "%s of %u bytes of shared memory out of bounds: at byte %u, "
                  "but the block has [%u, %u)",
                  nameOf(access), bytes, offset, kReservedBytes,
                  block.sharedEnd);
  if (offset % bytes && (bytes & (bytes - 1)) == 0)
    machine->fail(site,
                  "%s of %u bytes of shared memory at byte %u, which is "
                  "not aligned",
                  nameOf(access), bytes, offset);
  Epoch now = {thread.actor, thread.clock[thread.actor]};
  if (Conflict conflict =
          block.shadow->touch(offset, bytes, access, {now, site}, thread.clock))
    machine->fail(site, "%s",
                  machine->explain(nameOf(access), block, conflict).c_str());
}

extern "C" {

/// Before each load (0), store (1) or atomic (2) of memory that is shared or
/// may be. Atomics order memory as acq_rel, whatever they say.
void moe_emu_access(const void *address, uint32_t bytes, uint32_t kind,
                    const char *site) {
  auto access = static_cast<Access>(kind);
  if (access == Access::Atomic)
    machine->maybeYield();
  if (Block *block = machine->blockOf(address))
    checkShared(*block, address, bytes, access, site);
  else
    machine->checkGlobal(address, bytes, access != Access::Read, site);
  if (access == Access::Write)
    machine->progress();
  if (access != Access::Atomic)
    return;
  Thread &thread = self();
  VectorClock &clock = thread.block->cluster->atomics[address];
  thread.clock.join(clock);
  clock.join(thread.clock);
  machine->tick(thread);
}

/// The same for a load that may be one of a spinning thread: volatile or
/// atomic.
void moe_emu_spin_access(const void *address, uint32_t bytes, uint32_t kind,
                         const char *site) {
  machine->yield();
  moe_emu_access(address, bytes, kind, site);
}

} // extern "C"
