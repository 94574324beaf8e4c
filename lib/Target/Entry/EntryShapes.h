//===- EntryShapes.h - Sizes of results from sizes of arguments -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_ENTRYSHAPES_H
#define MOE_LIB_TARGET_ENTRYSHAPES_H

#include "moe/Target/EntrySignature.h"

namespace mlir::moe {

/// The attribute that moe-prepare-entry leaves on the entry:
/// {results = N, shapes = @NAME.shapes}.
inline constexpr llvm::StringLiteral kEntryAttr = "moe.entry";

/// Two sizes that have to be equal, because operands of one op have them.
struct SizeEquality {
  Value first, second;
};

/// Appends the equalities that the ops in `body` (not those nested in them)
/// demand of the sizes of their operands, as `tensor.dim` ops made with
/// `builder`. Static sizes are left to the verifiers.
void collectSizeEqualities(Block &body, OpBuilder &builder,
                           llvm::SmallVectorImpl<SizeEquality> &equalities);

/// Simplifies a function in place: folds sizes down to those of its arguments.
using SimplifyFn = llvm::function_ref<LogicalResult(func::FuncOp)>;

/// Builds `@NAME.shapes` of `entry` behind it; moe-prepare-entry describes it.
FailureOr<func::FuncOp> buildShapesFunction(func::FuncOp entry,
                                            const EntrySignature &signature,
                                            SimplifyFn simplify);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_ENTRYSHAPES_H
