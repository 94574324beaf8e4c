//===- RoutingReport.h - What a run tells of its routing --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The statistics that moe-instrument appends to a function, read and put into
/// words: a table for people, JSON for programs.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_ROUTINGREPORT_H
#define MOE_RUN_ROUTINGREPORT_H

#include "moe/Dialect/MoE/Transforms/Statistics.h"
#include "moe/Run/HostTensor.h"
#include "llvm/Support/JSON.h"
#include <vector>

namespace mlir::moe {

/// The routing of one layer (a moe.dispatch) in one call.
struct LayerRouting {
  std::vector<int64_t> tokens; ///< Rows of each expert.
  /// Choices with a row; dropped over capacity; with an id that is no expert's.
  int64_t routed = 0, dropped = 0, nowhere = 0;
  /// √(Σ |w·row|²) of each expert; none where it cannot be had.
  std::optional<std::vector<double>> contribution;

  /// The part of the rows that expert `i` has; 0 where there are no rows.
  double getShare(size_t i) const;
  /// −Σ p·log₂ p over the shares, in bits: log₂ E for an even load, 0 where one
  /// expert has all or there are no rows.
  double getEntropy() const;
  /// The busiest expert's rows by the mean; none where there are no rows.
  std::optional<double> getMaxOverMean() const;
};

/// The layers of a call. `results` are what `appended` tells of, in order; Ids
/// among them are skipped.
std::vector<LayerRouting>
readRouting(llvm::ArrayRef<AppendedStatistic> appended,
            llvm::ArrayRef<HostTensor> results);

/// A line for the layer, one for its load, and one for each expert; of many
/// experts those with the most rows.
void printRouting(llvm::ArrayRef<LayerRouting> layers, llvm::raw_ostream &os);

/// An array with an object a layer; docs/Insight.md describes it.
llvm::json::Array toJSON(llvm::ArrayRef<LayerRouting> layers);

} // namespace mlir::moe

#endif // MOE_RUN_ROUTINGREPORT_H
