//===- WorkProbe.h - Counts the work of a call ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// How many operations a call takes and which weights it reads depends on the
/// routing, so it is counted by running: the probe of a function takes the same
/// arguments and returns, in place of the results, what computing them takes.
/// Whatever does not decide the routing is dead code in it.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_WORKPROBE_H
#define MOE_RUN_WORKPROBE_H

#include "moe/Dialect/MoE/Analysis/WorkClass.h"
#include "moe/Run/HostTensor.h"
#include "moe/Target/EntrySignature.h"

namespace mlir::moe {

/// The work of one call.
struct Work {
  /// Of all contractions: two operations a multiply-add (matmuls and whatever
  /// linalg calls a contraction). The rest (gate, activations, sums of
  /// combine) is not counted.
  Operations operations{};
  /// Of each moe.expert, in the order of the text.
  struct Expert {
    int64_t numExperts = 0, numActive = 0, numRows = 0;
  };
  llvm::SmallVector<Expert, 1> experts;
  /// Weights that are read: all bytes of an argument with `moe.param`, except
  /// that an argument which only feeds per-expert values of moe.expert counts
  /// for the experts that have rows.
  uint64_t touchedWeightBytes = 0;
  uint64_t weightBytes = 0;
  /// All other arguments, and the results.
  uint64_t activationBytes = 0;
  /// Contractions in the text that are not counted: those inside control flow.
  unsigned numUncounted = 0;

  double getOperations() const { return getSum(operations); }
};

/// The probe of one function.
class WorkProbe {
public:
  /// Turns the function `entry` of `module` (empty: the only public one) into
  /// its probe. Emits an error and fails if the function cannot be compiled.
  static FailureOr<WorkProbe> build(ModuleOp module, llvm::StringRef entry);

  /// What the `counts`, the results of a call of the probe, say of a call of
  /// the function with `arguments` and `results`.
  Work read(llvm::ArrayRef<HostTensor> counts,
            llvm::ArrayRef<HostTensor> arguments,
            llvm::ArrayRef<HostTensor> results) const;

private:
  /// What is known of an argument of the function before it runs.
  struct Argument {
    bool isWeight = false;
    /// The moe.experts, by number, that it is a per-expert value of, when that
    /// is all its uses.
    llvm::SmallVector<unsigned, 1> experts;
  };
  friend class WorkProbeBuilder;

  llvm::SmallVector<Argument> arguments;
  unsigned numExpertOps = 0;
  unsigned numUncounted = 0;
};

} // namespace mlir::moe

#endif // MOE_RUN_WORKPROBE_H
