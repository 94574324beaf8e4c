//===- GlobalMemory.cpp - Who touched global memory last ------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GlobalMemory.h"

#include "Format.h"
#include "Machine.h"

#include <algorithm>

using namespace moe::emulation;

template <typename Fn>
Conflict GlobalShadow::forEachPage(const void *address, uint64_t bytes, Fn fn) {
  uint64_t at = reinterpret_cast<uintptr_t>(address), end = at + bytes;
  while (at < end) {
    uint64_t page = at / kPageBytes,
             last = std::min(end, (page + 1) * kPageBytes);
    std::unique_ptr<Shadow> &shadow = pages[page];
    if (!shadow)
      shadow = std::make_unique<Shadow>(kPageBytes);
    uint32_t offset = at % kPageBytes;
    if (Conflict conflict =
            fn(*shadow, offset, static_cast<uint32_t>(last - at))) {
      conflict.offset += static_cast<uint32_t>(page * kPageBytes);
      return conflict;
    }
    at = last;
  }
  return {};
}

Conflict GlobalShadow::touch(const void *address, uint64_t bytes, Access access,
                             const Toucher &who, const VectorClock &known) {
  return forEachPage(address, bytes,
                     [&](Shadow &page, uint32_t offset, uint32_t count) {
                       return page.touch(offset, count, access, who, known);
                     });
}

Conflict GlobalShadow::readAsync(const void *address, uint64_t bytes,
                                 const Toucher &who, const VectorClock &known) {
  return forEachPage(
      address, bytes, [&](Shadow &page, uint32_t offset, uint32_t count) {
        Conflict conflict = page.issueRead(offset, count, who, known);
        if (!conflict)
          page.finishRead(offset, count, who);
        return conflict;
      });
}

//===----------------------------------------------------------------------===//
// Accesses of a launch
//===----------------------------------------------------------------------===//

void Machine::checkGlobal(const void *address, uint64_t bytes, bool write,
                          const char *site) {
  if (!launch.num_buffers)
    return;
  auto at = reinterpret_cast<uintptr_t>(address);
  for (uint32_t i = 0; i < launch.num_buffers; ++i) {
    const MoEEmuBuffer &buffer = launch.buffers[i];
    auto base = reinterpret_cast<uintptr_t>(buffer.base);
    if (at < base || at + bytes > base + buffer.bytes)
      continue;
    if (write && !buffer.writable)
      fail(site,
           "write of %llu bytes to buffer %u (%s), which may only be read",
           static_cast<unsigned long long>(bytes), i,
           buffer.name ? buffer.name : "no name");
    return;
  }
  // The nearest one below says most.
  const MoEEmuBuffer *near = nullptr;
  for (uint32_t i = 0; i < launch.num_buffers; ++i) {
    const MoEEmuBuffer &buffer = launch.buffers[i];
    auto base = reinterpret_cast<uintptr_t>(buffer.base);
    if (base <= at && (!near || base > reinterpret_cast<uintptr_t>(near->base)))
      near = &buffer;
  }
  const char *did = write ? "write" : "read";
  if (!near)
    fail(site, "%s of %llu bytes of global memory outside of all %u buffers",
         did, static_cast<unsigned long long>(bytes), launch.num_buffers);
  fail(
      site,
      "%s of %llu bytes of global memory out of bounds: at byte %llu of buffer "
      "%u (%s), which has %llu",
      did, static_cast<unsigned long long>(bytes),
      static_cast<unsigned long long>(at -
                                      reinterpret_cast<uintptr_t>(near->base)),
      static_cast<unsigned>(near - launch.buffers),
      near->name ? near->name : "no name",
      static_cast<unsigned long long>(near->bytes));
}

void Machine::explainGlobal(const char *what, const void *address,
                            const Conflict &conflict, const char *site) {
  // Addresses differ from run to run; places in buffers do not.
  Conflict shown = conflict;
  std::string memory = "global memory";
  uint64_t at = (reinterpret_cast<uintptr_t>(address) & ~uint64_t(UINT32_MAX)) |
                conflict.offset;
  for (uint32_t i = 0; i < launch.num_buffers; ++i) {
    const MoEEmuBuffer &buffer = launch.buffers[i];
    auto base = reinterpret_cast<uintptr_t>(buffer.base);
    if (at + 1 < base || at >= base + buffer.bytes)
      continue;
    shown.offset = at < base ? 0 : static_cast<uint32_t>(at - base);
    memory +=
        format(", buffer %u (%s),", i, buffer.name ? buffer.name : "no name");
    break;
  }
  fail(site, "%s",
       explain(what, *current->block, shown, memory.c_str()).c_str());
}

void Machine::touchGlobal(const void *address, uint64_t bytes, Access access,
                          const char *what, const char *site) {
  if (!launch.cooperative)
    return;
  Epoch now = {current->actor, current->clock[current->actor]};
  if (Conflict conflict =
          global.touch(address, bytes, access, {now, site}, current->clock))
    explainGlobal(what, address, conflict, site);
}

void Machine::readGlobalAsync(const void *address, uint64_t bytes,
                              const char *site) {
  if (!launch.cooperative)
    return;
  Epoch now = {current->actor, current->clock[current->actor]};
  if (Conflict conflict =
          global.readAsync(address, bytes, {now, site}, current->clock))
    explainGlobal("bulk copy", address, conflict, site);
}
