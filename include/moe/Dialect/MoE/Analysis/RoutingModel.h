//===- RoutingModel.h - How many rows each expert gets ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// What a layer costs depends on which experts the tokens choose. A routing
/// model says it without tokens: as an expectation, or as counts of a run.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_ANALYSIS_ROUTINGMODEL_H
#define MOE_DIALECT_MOE_ANALYSIS_ROUTINGMODEL_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace mlir::moe {

/// The rows of each expert.
struct ExpertLoad {
  /// Expected number of rows.
  llvm::SmallVector<double, 0> rows;
  /// Probability that the expert has any.
  llvm::SmallVector<double, 0> touched;

  size_t getNumExperts() const { return rows.size(); }
  double getNumRows() const;
  double getNumTouched() const;
  double getMaxRows() const;

  /// No expert takes more than `capacity` rows.
  void limit(double capacity);
};

/// A rule for the rows of experts.
class RoutingModel {
public:
  /// Every expert is as likely as any other.
  RoutingModel() = default;

  /// Reads one of
  ///   "uniform"
  ///   "zipf:S"     expert e is chosen in proportion to (e + 1)^-S, but by no
  ///                token twice
  ///   "file:PATH"  counts of a run: what moe-run --stats wrote for one layer, a
  ///                JSON array, a JSON object with the member
  ///                "tokens_per_expert", or numbers with blanks between
  /// An error says what is wrong and what would be right.
  static llvm::Expected<RoutingModel> parse(llvm::StringRef text);

  /// The load of `numTokens` tokens that choose `topK` of `numExperts`
  /// different experts each. A token chooses expert e with probability q, so it
  /// has numTokens · q rows and any at all with probability
  /// 1 − (1 − q)^numTokens. An error if counts of a run are for another number
  /// of experts, or are more than there are choices.
  llvm::Expected<ExpertLoad> distribute(int64_t numTokens, int64_t topK,
                                        int64_t numExperts) const;

  /// As it was given to `parse`.
  llvm::StringRef getText() const { return text; }

private:
  llvm::Error readCounts(llvm::StringRef path);

  std::string text = "uniform";
  double exponent = 0; ///< Of zipf; uniform is 0.
  bool isCounted = false;
  std::vector<int64_t> counts;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_ANALYSIS_ROUTINGMODEL_H
