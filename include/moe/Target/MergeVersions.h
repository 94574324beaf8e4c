//===- MergeVersions.h - One entry for several versions ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_MERGEVERSIONS_H
#define MOE_TARGET_MERGEVERSIONS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "moe/Target/ISA.h"
#include "llvm/ADT/StringMap.h"
#include <optional>
#include <string>

namespace mlir::moe {

/// A layer, from `moe-prepare-entry` to `moe-allocations-to-workspace`, for an
/// instruction set; or down to launches, for a GPU.
struct Version {
  /// Of the instruction set or the GPU.
  std::string name;
  /// None for a GPU.
  std::optional<ISA> isa;
  OwningOpRef<ModuleOp> module;
};

/// What each function of a version is to be compiled for.
using VersionTargets = llvm::StringMap<ISA>;

/// Replaces what is in `module` by an entry called `names[0]` that runs one of
/// the versions (the best first), and by the versions, under names with their
/// instruction set behind. @NAME.workspace is the most that one of them needs;
/// sizes are computed once. Further names are those of its companions, which
/// run the same version. For GPUs, which version runs is what @NAME.image
/// returns; moe-launches-to-calls puts what the call knows in its place.
FailureOr<VersionTargets>
mergeVersions(ModuleOp module, llvm::ArrayRef<llvm::StringRef> names,
              llvm::MutableArrayRef<Version> versions);

/// Sets the target of the functions when they are in the LLVM dialect.
void setTargets(ModuleOp module, const VersionTargets &targets);

} // namespace mlir::moe

#endif // MOE_TARGET_MERGEVERSIONS_H
