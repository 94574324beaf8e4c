//===- Report.h - What a run tells ------------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOERUN_REPORT_H
#define MOE_TOOLS_MOERUN_REPORT_H

#include "moe/Run/Compare.h"
#include "moe/Run/MachineRoof.h"
#include "moe/Run/RoutingReport.h"
#include "moe/Run/Timing.h"
#include "llvm/Support/JSON.h"

namespace mlir::moe {

/// All that moe-run has to say about a run, as text for people and as JSON for
/// programs: both hold the same. Times are in seconds, sizes in bytes.
struct Report {
  struct Tensor {
    std::string name;
    llvm::SmallVector<int64_t, 4> shape;
    ElementType type = ElementType::Opaque;
    /// Of an argument: where its values are from. Of a result: its file, or
    /// empty.
    std::string file;
    uint64_t bytes = 0;
    bool mapped = false; ///< Used in the file, without a copy.
  };
  /// What became of packed weights: made, or found in a file.
  struct Packing {
    /// Where they were; empty if this run packed them.
    std::string file;
    /// Of packing them, or of checking the file.
    double seconds = 0;
    uint64_t readBytes = 0, writtenBytes = 0; ///< By packing.
  };
  struct Check {
    std::string result;
    std::string against;
    Difference difference;
    double tolerance = 0;

    bool passed() const { return difference.isWithin(tolerance); }
  };
  struct Benchmark {
    Timing timing;
    Work work;
    MachineRoof roof;
    MachineRoof::Bound bound;
    unsigned codeThreads = 1; ///< What the generated code runs on.

    /// How much of the machine a call uses: the least time it could take, as a
    /// share of the median. None when nothing bounds it.
    std::optional<double> getRoofShare() const;
  };

  std::string file, entry;
  std::string triple, cpu;
  unsigned optLevel = 0;
  unsigned numThreads = 1; ///< Asked for.
  uint64_t seed = 0;
  std::vector<Tensor> arguments, results;
  std::vector<std::string> notes;
  std::optional<Packing> packing;
  double compileSeconds = 0, loadSeconds = 0, callSeconds = 0;
  std::vector<Check> checks;
  std::optional<Benchmark> benchmark;
  std::vector<LayerRouting> routing; ///< Empty if nobody asked.
  uint64_t peakResidentBytes = 0;

  bool passed() const;
  void print(llvm::raw_ostream &os) const;
  llvm::json::Value toJSON() const;
  /// The routing alone, which is what --stats=FILE writes.
  llvm::json::Value routingToJSON() const;
};

} // namespace mlir::moe

#endif // MOE_TOOLS_MOERUN_REPORT_H
