//===- PackLayer.h - A layer on packed weights ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_PACKLAYER_H
#define MOE_TARGET_PACKLAYER_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>
#include <string>

namespace mlir::moe {

/// What packs weights of a layer, as moe-pack-weights leaves it.
struct Packing {
  /// The function: EntryOptions::companion. Its results are called as the
  /// layer's arguments, with "_packed" behind, and its arguments as those were
  /// (in text that moe-opt has packed without names: as the first that is made
  /// of them). All arguments of the layer have a `moe.name`.
  std::string function;
  /// For each of its results, in their order: which argument of the layer it is
  /// for.
  llvm::SmallVector<int32_t> packedArguments;
};

/// What packs weights of the function `entry` of a module on tensors; nothing
/// if nothing does.
///
/// With `packs`, lets the function take packed weights, unless it does already:
/// inlines what it calls, runs moe-fuse and moe-pack-weights. Emits an error
/// where there is nothing to pack.
///
/// Takes off what moe-pack-weights noted on the entry: the symbol in `moe.pack`
/// is there for pipelines that run on functions with moe ops and what symbols
/// connect with them, but an artifact is lowered whole, and its entries get
/// other arguments than `moe.packed` counts. Emits an error where the notes are
/// wrong.
FailureOr<std::optional<Packing>>
takePacking(ModuleOp module, llvm::StringRef entry, bool packs);

} // namespace mlir::moe

#endif // MOE_TARGET_PACKLAYER_H
