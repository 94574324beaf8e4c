//===- Runner.h - Compiles and runs a layer ---------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A run, in the order that keeps waiting and memory small: everything that can
/// be wrong with files and flags is found first, then comes compiling (whose
/// memory is given back), then the roof, then weights are loaded and the layer
/// runs; files are written last.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOERUN_RUNNER_H
#define MOE_TOOLS_MOERUN_RUNNER_H

#include "Compilation.h"
#include "Report.h"
#include "moe/Run/Arguments.h"
#include "moe/Run/Results.h"

namespace mlir::moe {

struct RunOptions {
  CompilationOptions compilation;
  ArgumentSources arguments;
  std::vector<NamedFile> outputs;
  /// Files to check results against, besides compilation.makeCheck.
  std::vector<NamedFile> references;
  std::optional<double> tolerance;
  bool benchmark = false;
  double minSeconds = 1;
  bool reportRouting = false;           ///< From statistics of the compilation.
  std::optional<NamedFile> recordedIds; ///< A file for the ids.
  std::optional<NamedFile> replayedIds; ///< A file with them.
  unsigned numThreads = 1;
  bool onDevice = false;   ///< The layer runs on an NVIDIA GPU.
  std::string savedPacked; ///< A file for packed weights, or empty.
};

/// Of arguments or results, in their order.
using Shapes = std::vector<llvm::SmallVector<int64_t>>;

class Runner {
public:
  explicit Runner(const RunOptions &options)
      : options(options), sources(options.arguments) {}

  /// Runs the layer. Writes the outputs, unless a check does not pass.
  llvm::Expected<Report> run(const RemarkFlags &remarks);

private:
  /// A tensor of a file that a result must agree with.
  struct Reference {
    size_t result;
    MappedTensor tensor;
  };

  /// A packed tensor's number, or that of an argument of `loaded`.
  struct Origin {
    bool isPacked;
    size_t number;
  };

  llvm::Error plan();
  /// Binds the arguments that ids became.
  llvm::Error planReplay(llvm::ArrayRef<unsigned> layers);
  llvm::Error checkRecord() const;
  llvm::Error record() const;
  llvm::Error planReferences();
  llvm::Error compile(const RemarkFlags &remarks);
  /// The results of a call with arguments of these shapes, loaded or not.
  llvm::Expected<std::vector<HostTensor>> makeResults(const Engine &engine,
                                                      const Shapes &shapes);
  llvm::Error checkMemory(const Shapes &shapes,
                          const EntrySignature &signature) const;
  llvm::Error load();
  llvm::Error call(const Engine &engine,
                   llvm::ArrayRef<const HostTensor *> arguments,
                   llvm::ArrayRef<HostTensor> results);
  /// Calls the layer where the options say.
  llvm::Error callLayer();
  /// Calls the layer in another form, before its weights are packed where that
  /// is known.
  llvm::Expected<std::vector<HostTensor>> callOther(const Engine &engine);
  llvm::Error check();
  llvm::Error addCheck(size_t result, const TensorView &reference,
                       llvm::StringRef against);
  llvm::Error benchmark();
  /// Takes the statistics from the results.
  void takeStatistics();
  void report();

  // Packed weights (PackedWeights.cpp).

  /// Finds out whether this run packs weights or has packed ones in a file,
  /// which it checks.
  llvm::Error planPacking(const Compilation &compilation);
  /// Finds out where the layer's arguments come from in a run that packs by
  /// `packer`.
  llvm::Error planArguments(const EntrySignature &packer);
  /// What is wrong with flags in a run on packed weights.
  llvm::Error checkPackingFlags() const;
  bool packs() const { return static_cast<bool>(compiled.packing); }
  /// The shapes of the layer's arguments.
  llvm::Expected<Shapes> inferArgumentShapes();
  /// Packs what was loaded, if this run does, and says what the layer takes.
  llvm::Error packWeights();
  llvm::Error savePacked() const;

  const RunOptions &options;
  Report summary;
  EntrySignature signature;
  /// Of the layer, as its arguments are bound and loaded: before they are
  /// packed, if this run does that.
  EntrySignature loaded;
  std::optional<Packing> packing;
  bool packsWeights = false;
  /// Compilation::hasUnpackedLayer.
  bool hasUnpackedLayer = false;
  /// What is packed, as numbers of the arguments of `loaded`.
  std::vector<size_t> packedSources;
  /// What each argument of the layer is, in a run that packs.
  std::vector<Origin> origins;
  ArgumentSources sources;
  std::vector<BoundArgument> bound;
  std::vector<OutputFilePlan> outputs;
  std::vector<Reference> references;
  CompiledLayer compiled;
  std::optional<MachineRoof> roof;
  std::vector<HostTensor> arguments, packed, results, statistics;
  /// In the order of the layer's: of `arguments`, or of `packed`.
  std::vector<const HostTensor *> layerArguments;
};

/// Reads a file and prints the signature of its entry.
llvm::Error printSignature(const CompilationOptions &options,
                           const RemarkFlags &remarks, llvm::raw_ostream &os);

} // namespace mlir::moe

#endif // MOE_TOOLS_MOERUN_RUNNER_H
