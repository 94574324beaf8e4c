//===- Cost.h - What a layer costs, counted in the IR -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Operations and bytes of a layer for a number of tokens and a routing,
/// without running it, for graph-level and kernel-level ops alike: so that a
/// layer can be compared before and after fusion. docs/Cost.md has the
/// formulas.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_ANALYSIS_COST_H
#define MOE_DIALECT_MOE_ANALYSIS_COST_H

#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Dialect/MoE/Analysis/RoutingModel.h"
#include "moe/Dialect/MoE/Analysis/WorkClass.h"
#include "llvm/Support/JSON.h"

namespace mlir::moe {

/// What is asked.
struct CostQuery {
  /// Stands for the dynamic leading sizes of arguments that are no weights.
  std::optional<int64_t> numTokens;
  /// Stands for a dynamic number of stacked experts.
  std::optional<int64_t> numExperts;
  RoutingModel routing;
};

/// Operations and bytes; expectations, so not integers.
struct Cost {
  /// Of contractions; the rest (gates, activations, sums of combine) is not
  /// counted.
  Operations operations{};
  /// Weights that are read: of stacked ones those of experts that have rows.
  double weightBytes = 0;
  /// Other tensors, read and written once by each op that uses them.
  double readBytes = 0, writtenBytes = 0;

  double getBytes() const { return weightBytes + readBytes + writtenBytes; }
  /// Operations a byte; none without bytes.
  std::optional<double> getIntensity() const;
  void add(const Cost &other, double times = 1);
};

struct LayerCost {
  struct Op {
    std::string name;
    std::optional<unsigned> line; ///< In the text that was parsed.
    Cost cost;
  };
  /// Where rows were distributed: a gate and its dispatch, a route.
  struct Routing {
    double numExperts, numTouched, numRows, maxRows;
  };

  std::string function;
  std::string routing;
  /// Of the first op that routes; none without one.
  std::optional<int64_t> numTokens;
  std::vector<Op> ops;
  std::vector<Routing> routings;
  /// All tensors between the ops, at their full size, each in memory of its
  /// own: the most that a lowering needs.
  double intermediateBytes = 0;
  /// Contractions inside control flow, and calls.
  unsigned numUncounted = 0;

  Cost getTotal() const;
  void print(llvm::raw_ostream &os) const;
  llvm::json::Value toJSON() const;
};

/// Counts what `function`, on tensors, costs. Emits an error and fails for a
/// size that neither the query nor the IR tells, and for ops on memrefs.
FailureOr<LayerCost> computeCost(FunctionOpInterface function,
                                 const CostQuery &query);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_ANALYSIS_COST_H
