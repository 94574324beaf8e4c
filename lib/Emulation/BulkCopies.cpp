//===- BulkCopies.cpp - Copies of the tensor memory accelerator -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Machine.h"
#include "TensorMaps.h"

#include <algorithm>
#include <array>
#include <cstring>

using namespace moe::emulation;

namespace {

/// One box of a tensor.
struct Box {
  TensorMap map;
  std::array<int32_t, 5> at = {};

  /// Calls fn(byte in the box, address or null) for each 16-byte chunk's
  /// element.
  template <typename Fn>
  void forElements(Fn fn) const {
    uint32_t count = map.boxBytes() / map.elementBytes;
    for (uint32_t element = 0; element < count; ++element) {
      uint64_t rest = element, address = map.base;
      bool inside = true;
      for (uint32_t i = 0; i < map.rank; ++i) {
        int64_t x = int64_t(at[i]) + int64_t(rest % map.box[i]);
        rest /= map.box[i];
        inside &= x >= 0 && x < int64_t(map.dims[i]);
        address += x * map.stride(i);
      }
      fn(element * map.elementBytes,
         inside ? reinterpret_cast<char *>(address) : nullptr);
    }
  }
};

} // namespace

static Box readBox(const void *map, const int32_t *coordinates, uint32_t rank,
                   const char *site) {
  Box box;
  memcpy(&box.map, map, sizeof(box.map));
  if (box.map.magic != TensorMap::kMagic)
    machine->fail(site, "the tensor map was not made by "
                        "moe_emu_encode_tensor_map (or the emulating driver)");
  if (box.map.rank != rank)
    machine->fail(site, "%u coordinates for a tensor map of rank %u", rank,
                  box.map.rank);
  std::copy(coordinates, coordinates + rank, box.at.begin());
  return box;
}

/// The part of the box that is in the tensor must be in a buffer.
static void checkBox(const Box &box, bool write, const char *site) {
  uint64_t low = box.map.base, high = box.map.base + box.map.elementBytes;
  for (uint32_t i = 0; i < box.map.rank; ++i) {
    int64_t first = std::max<int64_t>(box.at[i], 0);
    int64_t last = std::min<int64_t>(int64_t(box.at[i]) + box.map.box[i],
                                     box.map.dims[i]) -
                   1;
    if (last < first)
      return;
    low += first * box.map.stride(i);
    high += last * box.map.stride(i);
  }
  machine->checkGlobal(reinterpret_cast<void *>(low), high - low, write, site);
}

/// Checks a piece of shared memory that a copy touches.
static uint32_t checkShared(const Block &block, const void *address,
                            uint32_t bytes, uint32_t alignment,
                            const char *site) {
  if (!block.contains(address))
    machine->fail(site, "a bulk copy to or from memory that is not shared "
                        "memory of this block");
  uint32_t offset = block.offset(address);
  if (offset < kReservedBytes || offset + bytes > block.sharedEnd)
    machine->fail(
        site,
        "a bulk copy of %u bytes at byte %u of shared memory, but the "
        "block has [%u, %u)",
        bytes, offset, kReservedBytes, block.sharedEnd);
  if (offset % alignment)
    machine->fail(site,
                  "a bulk copy at byte %u of shared memory, which is not "
                  "aligned to %u",
                  offset, alignment);
  return offset;
}

/// Starts a copy to shared memory that completes on the mbarrier.
static void startLoad(Block &block, uint32_t offset, uint32_t bytes,
                      MBarrier &barrier, std::function<void(char *)> move,
                      const char *site) {
  Thread &thread = self();
  barrier.checkFenced(site);
  Epoch epoch = {barrier.copies, ++barrier.copyClock};
  if (Conflict conflict = block.shadow->issue(
          offset, bytes, {epoch, site}, thread.clock, /*needsFence=*/true))
    machine->fail(site, "%s",
                  machine->explain("bulk copy", block, conflict).c_str());
  ++block.copiesInFlight;
  machine->later([&block, &barrier, offset, bytes, epoch, site, move] {
    --block.copiesInFlight;
    move(block.window);
    block.shadow->land(offset, bytes, {epoch, site});
    barrier.completeBytes(bytes, epoch);
  });
}

static void loadBox(const Box &box, uint32_t offset, char *window) {
  box.forElements([&](uint32_t byte, const char *from) {
    char *to = window + swizzled(offset + byte, box.map.swizzle);
    if (from)
      memcpy(to, from, box.map.elementBytes);
    else
      memset(to, 0, box.map.elementBytes);
  });
}

static void storeBox(const Box &box, uint32_t offset, const char *window) {
  box.forElements([&](uint32_t byte, char *to) {
    if (to)
      memcpy(to, window + swizzled(offset + byte, box.map.swizzle),
             box.map.elementBytes);
  });
}

extern "C" {

/// A box of `rank` coordinates to shared memory; with a mask, to the same place
/// of each block of the cluster whose bit is set, and to its mbarrier.
void moe_emu_tma_load(void *destination, const void *map,
                      const int32_t *coordinates, uint32_t rank, void *barrier,
                      uint32_t multicast, const char *site) {
  Block &own = *self().block;
  Box box = readBox(map, coordinates, rank, site);
  uint32_t bytes = box.map.boxBytes();
  uint32_t offset = checkShared(own, destination, bytes, 128, site);
  machine->findBarrier(barrier, site);
  checkBox(box, /*write=*/false, site);
  if (machine->launch.cooperative)
    box.forElements([&](uint32_t, const char *from) {
      if (from)
        machine->readGlobalAsync(from, box.map.elementBytes, site);
    });
  if (!own.contains(barrier))
    machine->fail(site, "a bulk copy that completes on another block's "
                        "mbarrier");
  for (const auto &block : own.cluster->blocks) {
    bool isTarget =
        multicast ? multicast >> block->rank & 1 : block.get() == &own;
    if (!isTarget)
      continue;
    MBarrier &there =
        machine->findBarrier(block->window + own.offset(barrier), site);
    startLoad(
        *block, offset, bytes, there,
        [box, offset](char *window) { loadBox(box, offset, window); }, site);
  }
  machine->maybeYield();
}

/// One dimension, no tensor map.
void moe_emu_bulk_load(void *destination, const char *source, uint32_t bytes,
                       void *barrier, const char *site) {
  Block &own = *self().block;
  if (bytes % 16 || reinterpret_cast<uintptr_t>(source) % 16)
    machine->fail(site,
                  "a bulk copy of %u bytes: size and address must be "
                  "multiples of 16",
                  bytes);
  uint32_t offset = checkShared(own, destination, bytes, 16, site);
  machine->checkGlobal(source, bytes, /*write=*/false, site);
  machine->readGlobalAsync(source, bytes, site);
  startLoad(
      own, offset, bytes, machine->findBarrier(barrier, site),
      [=](char *window) { memcpy(window + offset, source, bytes); }, site);
  machine->maybeYield();
}

/// From shared memory to a box; until its group is waited for, it may read.
void moe_emu_tma_store(const void *map, const void *source,
                       const int32_t *coordinates, uint32_t rank,
                       const char *site) {
  Thread &thread = self();
  Block &block = *thread.block;
  Box box = readBox(map, coordinates, rank, site);
  uint32_t bytes = box.map.boxBytes();
  uint32_t offset = checkShared(block, source, bytes, 128, site);
  checkBox(box, /*write=*/true, site);
  Epoch now = {thread.actor, thread.clock[thread.actor]};
  if (Conflict conflict =
          block.shadow->issueRead(offset, bytes, {now, site}, thread.clock))
    machine->fail(site, "%s",
                  machine->explain("bulk store", block, conflict).c_str());
  char *window = block.window;
  thread.stores.push_back({offset, bytes, site, [box, offset, window] {
                             storeBox(box, offset, window);
                           }});
}

void moe_emu_bulk_commit() {
  Thread &thread = self();
  thread.storeGroups.push_back(std::move(thread.stores));
  thread.stores.clear();
  machine->maybeYield();
}

void moe_emu_bulk_wait(uint32_t keep) {
  Thread &thread = self();
  Epoch now = {thread.actor, thread.clock[thread.actor]};
  while (thread.storeGroups.size() > keep) {
    for (const BulkStore &store : thread.storeGroups.front()) {
      store.perform();
      thread.block->shadow->finishRead(store.offset, store.bytes,
                                       {now, store.site});
    }
    thread.storeGroups.pop_front();
  }
}

/// The same place in the shared memory of block `rank` of the cluster.
void *moe_emu_mapa(const void *address, uint32_t rank, const char *site) {
  const Block &own = *self().block;
  if (rank >= own.cluster->blocks.size())
    machine->fail(site, "mapa to block %u of a cluster of %zu", rank,
                  own.cluster->blocks.size());
  Block *block = machine->blockOf(address);
  if (!block)
    machine->fail(site, "mapa of an address that is not shared memory");
  return own.cluster->blocks[rank]->window + block->offset(address);
}

} // extern "C"
