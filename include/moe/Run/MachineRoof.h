//===- MachineRoof.h - What this machine can do at most ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The roof that a timing is a share of, measured when it is needed: numbers of
/// a data sheet are of another machine, another clock and fewer neighbours.
///
/// Kernels are a few lines of LLVM IR for the widest vectors of the target,
/// compiled by the LLVM that compiles layers:
///  - arithmetic: independent chains of fused multiply-adds in registers, or of
///    bf16 dot products where the target has them (AVX512-BF16);
///  - memory: sums over a buffer of at least four times the last-level cache.
/// The best of several short rounds counts, since other programs only take
/// away.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_MACHINEROOF_H
#define MOE_RUN_MACHINEROOF_H

#include "moe/Run/WorkProbe.h"
#include "moe/Target/CodeGen.h"

namespace mlir::moe {

struct MachineRoof {
  unsigned numThreads = 0;
  /// Floating point operations a second, all threads together.
  double f64 = 0, f32 = 0;
  /// Of bf16 products added in f32; none where the target has no instruction.
  std::optional<double> bf16;
  /// Bytes a second that all threads together read from memory.
  double readBandwidth = 0;

  unsigned vectorBits = 0;
  uint64_t cacheBytes = 0;  ///< Of all last-level caches.
  uint64_t bufferBytes = 0; ///< Over which readBandwidth was measured.

  /// The peak for contractions of a class: bf16 and f16 without instructions of
  /// their own are computed in f32. None for integers, which are not measured.
  std::optional<double> getPeak(WorkClass type) const;

  /// The seconds that a call takes at least on this machine.
  struct Bound {
    double arithmetic = 0, memory = 0;
    double get() const { return std::max(arithmetic, memory); }
    bool isMemory() const { return memory > arithmetic; }
  };
  /// Arithmetic: the operations of each class at its peak. Memory: touched
  /// weights and activations at the read bandwidth, or 0 when they fit into the
  /// last-level cache, where they stay from one call to the next.
  Bound getBound(const Work &work) const;
};

/// Measures in about a second. Fails when there is no memory for the buffer.
llvm::Expected<MachineRoof> measureMachineRoof(const CodeGenOptions &options,
                                               unsigned numThreads);

/// The threads that this process may run at once.
unsigned getNumAvailableThreads();

} // namespace mlir::moe

#endif // MOE_RUN_MACHINEROOF_H
