//===- Statistics.h - What a layer tells of its routing ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Statistics of routing as results of a function, and ids of another run as
/// its arguments. Both work on a moe.dispatch or moe.plan at the top level of a
/// function, called a *layer* here; layers count from 0 in the order of the
/// text.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_STATISTICS_H
#define MOE_DIALECT_MOE_TRANSFORMS_STATISTICS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>

namespace mlir::moe {

/// A statistic of a layer with T tokens, k choices a token and E experts.
enum class RoutingStatistic {
  /// E × i64: the rows of each expert.
  Tokens,
  /// 3 × i64: the choices that have a row; those that name an expert but have
  /// none (dropped); those whose id is no expert's (nowhere). Together T·k.
  Choices,
  /// E × f64: √(Σ |w·row|²) over the expert's rows, w their weights in combine.
  Contribution,
  /// T×k × i32: the ids.
  Ids,
};

/// All of them, in the order in which they are appended.
inline constexpr RoutingStatistic kAllStatistics[] = {
    RoutingStatistic::Tokens, RoutingStatistic::Choices,
    RoutingStatistic::Contribution, RoutingStatistic::Ids};

/// "tokens", "choices", "contribution", "ids".
llvm::StringRef getName(RoutingStatistic statistic);

/// The statistic of that name, none if there is no such.
std::optional<RoutingStatistic> parseStatistic(llvm::StringRef name);

/// A result that was appended to a function.
struct AppendedStatistic {
  unsigned layer;
  RoutingStatistic statistic;
};

/// Appends `statistics` of each layer of `func` to its results, layer after
/// layer, and says which ones. None, with missed remarks, where moe-instrument
/// declines; nothing else of `func` changes in any case.
llvm::SmallVector<AppendedStatistic>
appendStatistics(func::FuncOp func,
                 llvm::ArrayRef<RoutingStatistic> statistics);

/// Builds the weights (T×k, in the init of `gate`) that `gate` gives to `ids`
/// (T×k × i32), by its own rule and from its own logits: the same bits as its
/// result where the ids are those that it chooses. An id outside [0, E) has
/// weight 0 and counts in no sum. Needs `gate` on tensors.
Value buildGateWeights(OpBuilder &builder, GateOp gate, Value ids);

/// Replaces the ids of each layer of `func` by a further argument, called
/// `replay_idsN` for layer N, and the weights of the gate that made them by
/// those of these ids. Says which layers have such an argument: layers that
/// share ids have one, that of the first. None, with missed remarks, where
/// moe-replay-ids declines.
llvm::SmallVector<unsigned> replayIds(func::FuncOp func);

/// "replay_ids0".
std::string getReplayedName(unsigned layer);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_STATISTICS_H
