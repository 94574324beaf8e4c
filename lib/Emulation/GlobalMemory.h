//===- GlobalMemory.h - Who touched global memory last ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATION_GLOBALMEMORY_H
#define MOE_LIB_EMULATION_GLOBALMEMORY_H

#include "Shadow.h"

#include <memory>
#include <unordered_map>

namespace moe::emulation {

/// The shadow of global memory, in pages that are made when they are touched.
/// For launches whose blocks know each other's clocks.
class GlobalShadow {
public:
  /// As Shadow::touch. Conflict::offset is the low half of the address.
  Conflict touch(const void *address, uint64_t bytes, Access access,
                 const Toucher &who, const VectorClock &known);

  /// A read by the async proxy: what threads wrote has to be fenced.
  Conflict readAsync(const void *address, uint64_t bytes, const Toucher &who,
                     const VectorClock &known);

private:
  static constexpr uint64_t kPageBytes = 4096;

  template <typename Fn>
  Conflict forEachPage(const void *address, uint64_t bytes, Fn fn);

  std::unordered_map<uint64_t, std::unique_ptr<Shadow>> pages;
};

} // namespace moe::emulation

#endif // MOE_LIB_EMULATION_GLOBALMEMORY_H
