//===- StatsEntry.h - The variant of an entry with statistics ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// An artifact of --stats holds a layer twice: as it is, for callers that want
/// no statistics, and with statistics as further results.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_STATSENTRY_H
#define MOE_LIB_TARGET_STATSENTRY_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "moe/Dialect/MoE/Transforms/Statistics.h"

namespace mlir::moe {

/// The attribute that moe-prepare-entry leaves on the entry: {function =
/// @NAME.stats, shapes = @NAME.stats.shapes, statistics = pairs of a layer and
/// the number of a RoutingStatistic}.
inline constexpr llvm::StringLiteral kStatsAttr = "moe.stats";

/// A copy of an entry and the results that were appended to it.
struct StatsVariant {
  func::FuncOp function; ///< Null if there is none.
  SmallVector<AppendedStatistic> appended;
};

DictionaryAttr makeStatsAttr(const StatsVariant &variant, func::FuncOp shapes);

/// What makeStatsAttr wrote of the results; an error at `entry` for other
/// attributes.
FailureOr<SmallVector<AppendedStatistic>> readAppended(func::FuncOp entry,
                                                       DictionaryAttr attr);

/// What the C functions of a layer with statistics are made of.
struct StatsEntry {
  /// `i32 run(tensors[, workspace, bytes])` of the plain layer.
  LLVM::LLVMFuncOp run;
  /// `i32 check(arguments, sizes)` and `i32 run(tensors[, workspace, bytes])`
  /// of the variant; its tensors end with the statistics.
  LLVM::LLVMFuncOp variantCheck, variantRun;
  /// The statistics, and their types.
  ArrayRef<AppendedStatistic> appended;
  ArrayRef<MemRefType> types;
  /// Arguments and results of the plain layer, and the sizes of its results.
  int64_t numTensors = 0, numResultSizes = 0;
};

/// Builds `i32 @name(tensors, moe_stats *stats, workspace, bytes)` behind
/// `entry.run`: the plain layer where `stats` is null, else the variant, which
/// writes to the members of `stats[layer]` that are not null and elsewhere to
/// memory that the function allocates and frees.
LLVM::LLVMFuncOp buildRunStats(StatsEntry &entry, StringRef name);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_STATSENTRY_H
