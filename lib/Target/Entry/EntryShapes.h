//===- EntryShapes.h - Sizes of results from sizes of arguments -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_ENTRYSHAPES_H
#define MOE_LIB_TARGET_ENTRYSHAPES_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Target/EntrySignature.h"

namespace mlir::moe {

/// Calls `rewrite` for each function of a symbol table that moe-prepare-entry
/// made an entry, with that attribute; it may replace the function.
LogicalResult forEachEntry(
    Operation *symbolTable,
    llvm::function_ref<LogicalResult(func::FuncOp, DictionaryAttr)> rewrite);

/// Removes `moe.name` and `moe.param` from arguments: conversion to LLVM IR
/// warns of attributes that it does not know.
void removeNames(func::FuncOp func);

/// A size that @NAME.shapes computes, in the names of its arguments: "2 * T".
std::string printSize(func::FuncOp shapes, Value size);

/// A relation of two sizes that an op takes for granted.
struct SizeConstraint {
  Value first, second;
  /// True means that the constraint is violated: `ne`, or `ugt`.
  arith::CmpIPredicate violation = arith::CmpIPredicate::ne;
};

/// Appends what the ops in `block` demand of the sizes of their operands;
/// `builder` makes the `tensor.dim` ops and arithmetic. Static sizes are left
/// to the verifiers. Of nested ops those in bodies of moe.expert are looked at:
/// a body is copied behind its op, on slices with an unknown number of rows.
/// What the copy computes makes no sense, but its sizes do.
void collectSizeConstraints(Block &block, OpBuilder &builder,
                            llvm::SmallVectorImpl<SizeConstraint> &constraints);

/// Simplifies a function in place: folds sizes down to those of its arguments.
using SimplifyFn = llvm::function_ref<LogicalResult(func::FuncOp)>;

/// Builds `@NAME.shapes` of `entry` behind it; moe-prepare-entry describes it.
FailureOr<func::FuncOp> buildShapesFunction(func::FuncOp entry,
                                            const EntrySignature &signature,
                                            SimplifyFn simplify);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_ENTRYSHAPES_H
