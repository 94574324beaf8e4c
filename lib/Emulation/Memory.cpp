//===- Memory.cpp - Checks of loads, stores and atomics -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

#include <algorithm>

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

namespace {
/// What an atomic says of order, as flags of its kind.
enum Order : uint32_t {
  kAcquire = 4,
  kRelease = 8,
  kBlockScope = 16,
  kIsLoad = 32
};
} // namespace

/// An atomic: who acquires learns what was released at its place before. With
/// the scope of a block, only from and to the block. `isStore`: what was
/// released there before ends with it.
static void order(const void *address, uint32_t order, bool isStore) {
  Thread &thread = self();
  uint32_t scope = order & kBlockScope ? thread.block->rank + 1 : 0;
  VectorClock &released = thread.block->cluster->atomics[{address, scope}];
  if (!isStore)
    (order & kAcquire ? thread.clock : thread.seen).join(released);
  if (order & kIsLoad)
    return;
  // A relaxed store releases what was known at the last fence.
  const VectorClock &known = order & kRelease ? thread.clock : thread.fenced;
  if (isStore)
    released = known;
  else
    released.join(known);
  machine->tick(thread);
}

extern "C" {

/// Before each load (0), store (1) or atomic (2) of memory that is shared or
/// may be; of an atomic with flags of its order, and with bit 0 if it only
/// stores.
void moe_emu_access(const void *address, uint32_t bytes, uint32_t kind,
                    const char *site) {
  auto access = static_cast<Access>(std::min<uint32_t>(kind & 3, 2));
  if (access == Access::Atomic)
    machine->maybeYield();
  if (Block *block = machine->blockOf(address)) {
    checkShared(*block, address, bytes, access, site);
  } else {
    machine->checkGlobal(address, bytes, access != Access::Read, site);
    machine->touchGlobal(address, bytes, access, nameOf(access), site);
  }
  if (access == Access::Write)
    machine->progress();
  if (access == Access::Atomic)
    order(address, kind, /*isStore=*/(kind & 3) == 3);
}

/// The same for a load that may be one of a spinning thread: volatile or
/// atomic.
void moe_emu_spin_access(const void *address, uint32_t bytes, uint32_t kind,
                         const char *site) {
  machine->yield();
  moe_emu_access(address, bytes, kind, site);
}

/// fence.acq_rel or stronger: acquires what relaxed loads have seen, and what
/// is known is released by relaxed stores from now on.
void moe_emu_fence() {
  Thread &thread = self();
  thread.clock.join(thread.seen);
  thread.fenced = thread.clock;
  machine->tick(thread);
}

} // extern "C"
