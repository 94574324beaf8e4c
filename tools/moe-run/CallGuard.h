//===- CallGuard.h - Clear ends of generated code ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOERUN_CALLGUARD_H
#define MOE_TOOLS_MOERUN_CALLGUARD_H

#include "llvm/ADT/ArrayRef.h"
#include <csignal>
#include <vector>

namespace mlir::moe {

/// While one lives, generated code that ends the process (a failed assertion of
/// --runtime-verification, an instruction that this machine lacks, memory that
/// is not there) does so with a message and status 1 instead of a stack dump.
/// What the code prints, the assertion's message, goes to standard error. Files
/// are written after calls, so nothing is left behind.
class CallGuard {
public:
  /// `hasChecks`: the code was compiled with --runtime-verification.
  explicit CallGuard(bool hasChecks);
  ~CallGuard();
  CallGuard(const CallGuard &) = delete;
  CallGuard &operator=(const CallGuard &) = delete;

private:
  int savedOutput;
  std::vector<struct sigaction> savedActions;
};

} // namespace mlir::moe

#endif // MOE_TOOLS_MOERUN_CALLGUARD_H
