//===- ISA.cpp - Instruction sets that an artifact chooses from -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/ISA.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

using namespace mlir::moe;

static constexpr ISA kISAs[] = {
    {"amx-bf16", "x86-64-v4", "+avx512bf16,+amx-tile,+amx-bf16",
     "sapphirerapids", kHasAVX2 | kHasAVX512 | kHasAVX512BF16 | kHasAMXBF16},
    {"avx512bf16", "x86-64-v4", "+avx512bf16", "znver4",
     kHasAVX2 | kHasAVX512 | kHasAVX512BF16},
    {"avx512", "x86-64-v4", "", "", kHasAVX2 | kHasAVX512},
    {"avx2", "x86-64-v3", "", "", kHasAVX2},
    {"generic", "x86-64", "", "", 0, false},
    // The code of amx-bf16 where there is none of it, for tests.
    {"amx-bf16-emulated", "x86-64-v3", "", "", kHasAVX2, false},
};

llvm::ArrayRef<ISA> mlir::moe::getISAs() { return kISAs; }

llvm::SmallVector<ISA> mlir::moe::getDefaultISAs() {
  return llvm::to_vector(llvm::make_filter_range(
      kISAs, [](const ISA &isa) { return isa.isDefault; }));
}

llvm::Expected<llvm::SmallVector<ISA>>
mlir::moe::parseISAs(llvm::StringRef names) {
  llvm::SmallVector<llvm::StringRef> wanted;
  names.split(wanted, ',');
  for (llvm::StringRef name : wanted) {
    if (llvm::any_of(kISAs, [&](const ISA &isa) { return isa.name == name; }))
      continue;
    std::string known;
    for (const ISA &isa : llvm::drop_begin(llvm::reverse(kISAs)))
      known += (known.empty() ? "" : ", ") + isa.name.str();
    return llvm::createStringError("there is no instruction set '" + name +
                                   "'; there are " + known);
  }
  return llvm::to_vector(llvm::make_filter_range(kISAs, [&](const ISA &isa) {
    return llvm::is_contained(wanted, isa.name);
  }));
}
