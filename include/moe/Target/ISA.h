//===- ISA.h - Instruction sets that an artifact chooses from ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// An artifact for x86-64 holds the code of a layer several times, a version an
/// instruction set, and its first call chooses one.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_ISA_H
#define MOE_TARGET_ISA_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// What the dispatch of an artifact asks a machine for, as bits: cpu and
/// operating system both.
enum MachineFeature : uint32_t {
  kHasAVX2 = 1,       ///< All of x86-64-v3: AVX2, FMA, F16C, BMI, ...
  kHasAVX512 = 2,     ///< All of x86-64-v4: AVX-512 F, BW, CD, DQ, VL.
  kHasAVX512BF16 = 4, ///< AVX512_BF16.
  kHasAMXBF16 = 8,    ///< AMX-TILE and AMX-BF16, where the system saves tiles.
};

/// An instruction set under the name that flags, MOE_ISA and
/// moe-select-cpu-strategy know it by.
struct ISA {
  llvm::StringLiteral name;
  /// Function attributes of LLVM: instructions, and the cpu that code is
  /// scheduled for (empty: `cpu`).
  llvm::StringLiteral cpu, features, tuneCPU;
  /// MachineFeatures that the code needs. Of AMX the operating system is asked
  /// besides, before it is chosen.
  uint32_t needs;
  /// Whether artifacts hold it if nobody asks for something else.
  bool isDefault = true;
};

/// All there are, the best first.
llvm::ArrayRef<ISA> getISAs();

/// What artifacts hold if nobody asks for something else.
llvm::SmallVector<ISA> getDefaultISAs();

/// The instruction sets of "avx2,avx512", the best first. Fails on a name that
/// none has, with a list of those that there are.
llvm::Expected<llvm::SmallVector<ISA>> parseISAs(llvm::StringRef names);

} // namespace mlir::moe

#endif // MOE_TARGET_ISA_H
