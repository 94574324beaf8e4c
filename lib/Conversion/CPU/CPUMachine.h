//===- CPUMachine.h - What is known of the CPU to compile for ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_CPUMACHINE_H
#define LIB_CONVERSION_CPU_CPUMACHINE_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// What there is to know about a machine's vector instructions.
struct VectorISA {
  int64_t lanes;       ///< f32 in a register
  int64_t tileRows;    ///< with tileColumns: accumulators that fit
  int64_t tileColumns; ///< beside the operands of a step
  CPUKernel kernel;    ///< Where all factors are bf16; else fma.
  bool amx = false;    ///< Where there is no obstacle; others are as without.
};

/// The instructions, and the bytes of a core's first and second caches.
struct CPUMachine {
  std::string isaName;
  VectorISA isa;
  int64_t l1Bytes, l2Bytes;
};

/// The machine that `isa` names (generic, avx2, avx512, avx512bf16, amx-bf16),
/// with the caches that `op`'s `dlti.target_system_spec` has under "CPU":
/// "L1_cache_size_in_bytes" and "L2_cache_size_in_bytes", or 48 KB and 1 MB
/// (Zen 5; other cores of the last years have 32 KB to 2 MB). Where `isa` is
/// empty, "vector_isa" of the same spec names it, or it is generic. Emits an
/// error for a name that is unknown and for a size that is not a positive
/// integer.
FailureOr<CPUMachine> describeCPU(Operation *op, StringRef isa);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_CPUMACHINE_H
