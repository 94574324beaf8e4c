//===- GlobalMemory.cpp - Who touched global memory last --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GlobalMemory.h"

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
