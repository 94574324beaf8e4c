//===- SizeChecks.h - What a call checks, in numbers ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A status of the C interface says which tensor is to blame, and no numbers. A
/// caller that knows the signature can find them again: it keeps what the entry
/// checks as formulas, and evaluates them on the sizes that were refused.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_SIZECHECKS_H
#define MOE_TARGET_SIZECHECKS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Runtime/moe.h"
#include <functional>
#include <optional>
#include <string>

namespace mlir::moe {

struct EntrySignature;

/// A number, a size of an argument, or arithmetic on these.
struct SizeFormula {
  /// "2048", "size 0 of 'x'", "T * 2".
  std::string text;
  /// Its value, given the dynamic sizes of the arguments in their order; none
  /// where it overflows, or is arithmetic of an unknown kind. Refers to no IR.
  std::function<std::optional<int64_t>(llvm::ArrayRef<int64_t>)> evaluate;
  bool isConstant = false;
};

/// A relation of two sizes that makes a call return `status`.
struct SizeCheck {
  enum class Violation { NotEqual, More, AtLeast };

  int32_t status;
  SizeFormula first;
  Violation violation; ///< first … second.
  SizeFormula second;
};

/// Fills the `sizeChecks` of `signature` from the function @NAME.shapes that
/// moe-prepare-entry made for it.
void readSizeChecks(func::FuncOp shapes, EntrySignature &signature);

/// Fills the `workspace` of `signature` from the function @NAME.workspace that
/// moe-allocations-to-workspace made for it; null means none is needed.
void readWorkspace(func::FuncOp workspace, EntrySignature &signature);

/// Bytes of workspace for a call with the shapes of `tensors` (arguments
/// first); none where these are not as the signature says.
std::optional<int64_t>
getWorkspaceBytes(const EntrySignature &signature,
                  llvm::ArrayRef<const moe_tensor *> tensors);

/// "the workspace has 64 bytes, and 320 are needed", as far as that is known.
std::string explainWorkspace(const EntrySignature &signature,
                             llvm::ArrayRef<const moe_tensor *> tensors,
                             std::optional<size_t> bytes);

/// Why a call with the shapes of `tensors` (arguments first) returned `status`,
/// with both numbers: "size 0 of 'x' is 5, but size 0 of 'w' is 4". Empty where
/// no check on sizes was the reason.
std::string explainSizes(int32_t status, const EntrySignature &signature,
                         llvm::ArrayRef<const moe_tensor *> tensors);

} // namespace mlir::moe

#endif // MOE_TARGET_SIZECHECKS_H
