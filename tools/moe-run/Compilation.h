//===- Compilation.h - From a file to functions to call ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOERUN_COMPILATION_H
#define MOE_TOOLS_MOERUN_COMPILATION_H

#include "Common/RemarkFlags.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "moe/Dialect/MoE/Transforms/Statistics.h"
#include "moe/Run/WorkProbe.h"
#include "moe/Target/Engine.h"
#include "moe/Target/Lowering.h"
#include "moe/Target/PackLayer.h"
#include "llvm/Support/SourceMgr.h"

namespace mlir {
class SourceMgrDiagnosticHandler;
} // namespace mlir

namespace mlir::moe {

struct CompilationOptions {
  std::string file;  ///< "-" for standard input.
  std::string entry; ///< Empty for the only public function.
  CodeGenOptions codeGen;
  llvm::SmallVector<ISA> versions; ///< Of the layer; empty for `codeGen`'s cpu.
  bool relaxedRounding = false;    ///< Of the layer, not of what checks it.
  std::string chip; ///< The GPU that runs the layer, if one does.
  bool runtimeVerification = false;
  std::string dumpStages;     ///< A folder, or empty.
  bool makeCheck = false;     ///< Also compile the function to check against.
  bool makeWorkProbe = false; ///< Also compile the probe of its work.
  bool replaysIds = false;    ///< Ids become arguments.
  bool packsWeights = false;  ///< Weights become packed ones.
  /// What the layer returns after its own results.
  llvm::SmallVector<RoutingStatistic, 4> statistics;
};

/// The functions of a run.
struct CompiledLayer {
  std::unique_ptr<Engine> layer;
  /// What the results of `layer` after those of the function are.
  llvm::SmallVector<AppendedStatistic> statistics;
  /// The same function another way: sums in memory, as upstream's conversion to
  /// loops leaves them, and fewer optimizations.
  std::unique_ptr<Engine> check;
  /// Returns what `workProbe` reads.
  std::unique_ptr<Engine> probe;
  std::optional<WorkProbe> workProbe;
  /// What packs the weights of `layer`; null if nothing does in this run.
  std::unique_ptr<Engine> packing;
};

/// What `check` of CompiledLayer is, for a report.
inline constexpr llvm::StringLiteral kCheckDescription =
    "a second compile with sums in memory at -O1";

/// A file in MLIR, and all that compiling it needs; gone when the compiled
/// functions run. Errors that diagnostics have told already have no text.
class Compilation {
public:
  explicit Compilation(const CompilationOptions &options);
  ~Compilation();

  /// Reads the file; `getSignature` knows no names of sizes yet.
  llvm::Error parse(const RemarkFlags &remarks);
  const EntrySignature &getSignature() const { return signature; }
  /// What packs weights of the layer, if they are packed.
  const std::optional<Packing> &getPacking() const { return packing; }
  const EntrySignature &getPackingSignature() const { return sources; }
  /// The layer with the arguments that it has before its weights are packed.
  const EntrySignature &getUnpackedSignature() const { return unpacked; }
  /// Whether getUnpackedSignature is that of a layer of its own, with which
  /// `check` and `probe` are made of a run that packs weights.
  bool hasUnpackedLayer() const { return static_cast<bool>(original); }
  /// The layers whose ids are arguments, called getReplayedName.
  llvm::ArrayRef<unsigned> getReplayed() const { return replayed; }

  /// Compiles all that the options ask for; once only. `packs` says whether
  /// the run packs the weights, or has packed ones.
  llvm::Expected<CompiledLayer> compile(bool packs);

private:
  llvm::Expected<std::unique_ptr<Engine>> compile(ModuleOp module,
                                                  EntryOptions entry,
                                                  const CodeGenOptions &codeGen,
                                                  StageDumper &stages);
  /// Layers in functions that the entry calls become layers of the entry.
  LogicalResult inlineCalls();
  llvm::Error replay(func::FuncOp entry);
  /// Packs the weights of @`name` if the options ask for it.
  llvm::Error pack(llvm::StringRef name);
  llvm::Error compilePacking(OwningOpRef<ModuleOp> module,
                             CompiledLayer &compiled);
  /// Appends the statistics to the results of the layer.
  llvm::Error instrument(CompiledLayer &compiled);
  llvm::Error compileExtras(OwningOpRef<ModuleOp> check,
                            OwningOpRef<ModuleOp> probe,
                            CompiledLayer &compiled);

  const CompilationOptions &options;
  MLIRContext context;
  llvm::SourceMgr sourceMgr;
  std::unique_ptr<SourceMgrDiagnosticHandler> diagnostics;
  OwningOpRef<ModuleOp> module;
  EntrySignature signature, unpacked, sources;
  std::optional<Packing> packing;
  OwningOpRef<ModuleOp> original; ///< Before weights were packed.
  llvm::SmallVector<unsigned> replayed;
};

} // namespace mlir::moe

#endif // MOE_TOOLS_MOERUN_COMPILATION_H
