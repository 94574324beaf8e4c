//===- Lowering.h - From a layer to the LLVM dialect ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_LOWERING_H
#define MOE_TARGET_LOWERING_H

#include "mlir/IR/BuiltinOps.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Target/EntrySignature.h"
#include "moe/Target/EntryStatistic.h"
#include "moe/Target/GPUCode.h"
#include "moe/Target/ISA.h"

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace mlir::moe {

/// Writes the IR after each stage of a compilation into a folder:
/// 00-input.mlir, 01-entry.mlir, ...
class StageDumper {
public:
  /// Writes nothing.
  StageDumper() = default;
  /// Writes into `directory`, which is made if it is not there.
  explicit StageDumper(llvm::StringRef directory) : directory(directory) {}

  bool isEnabled() const { return !directory.empty(); }

  /// Writes what `print` prints to NN-`name`.`extension`, NN counting up. An
  /// error names the file; without a folder this does nothing.
  llvm::Error dump(llvm::StringRef name, llvm::StringRef extension,
                   llvm::function_ref<void(llvm::raw_ostream &)> print);
  /// The same for IR.
  llvm::Error dump(llvm::StringRef name, Operation *op);

private:
  std::string directory;
  unsigned numDumped = 0;
};

struct EntryOptions {
  /// The function to compile; empty for the only public one.
  std::string entry;
  /// A function to compile beside the entry: what packs its weights
  /// (packWeights); empty for none. Not for GPUs.
  std::string companion;
  /// Also make `NAME_shapes(const moe_tensor *const *arguments, int64_t
  /// *sizes)` visible: it checks the arguments as NAME does and writes all
  /// sizes of the first result, then of the second, ...; -1 for a size that
  /// depends on the data. The JIT needs it, artifacts do not have it.
  bool exportShapes = false;
  /// How tensors become loops where `isa` is empty.
  GeneralLoweringOptions lowering;
  /// The vector instructions that moe-cpu-lowering may use (getVectorISA);
  /// empty for the general lowering.
  std::string isa;
  /// Round where a matmul stores (`moe-relax-rounding`); with an isa only.
  bool relaxedRounding = false;
  /// Instruction sets, the best first: the layer is compiled for each, and its
  /// first call chooses. `isa` does not matter then. Empty for one version for
  /// whatever machine the module is compiled for.
  llvm::SmallVector<ISA> versions;
  /// The GPUs to compile for, if any; `isa` does not matter then.
  GPUCodeOptions gpu;
  /// For one GPU: stop when kernels are machine code (getPTX, getCubin).
  bool stopsAtKernels = false;
  /// Statistics to give to callers that ask for them (moe_stats.h). NAME and
  /// NAME_packed then have an argument `moe_stats *stats` after the tensors.
  llvm::SmallVector<RoutingStatistic, 4> statistics;
};

/// Lowers a module with a layer at tensor level to the LLVM dialect, in place:
/// `moe-prepare-entry`, buildGeneralBufferPipeline or buildCPUBufferPipeline,
/// `moe-allocations-to-workspace`, `moe-create-c-entry`,
/// buildLowerToLLVMPipeline. With `versions` the second and third of them run
/// once for each, on copies that are then merged (MergeVersions.h). For a GPU,
/// buildGPUBufferPipeline, and between workspace and C entry
/// buildGPUKernelPipeline, compileKernels and `moe-launches-to-calls`. Returns
/// the signature with its `sizeNames`.
/// After a failure (with diagnostics) the module is half lowered. `statistics`,
/// if given, is set to what the entry can fill; `companion`, which is given
/// where the options name one, to its signature.
FailureOr<EntrySignature>
lowerToLLVMDialect(ModuleOp module, const EntryOptions &options,
                   StageDumper &stages,
                   std::vector<EntryStatistic> *statistics = nullptr,
                   EntrySignature *companion = nullptr);

/// What lowering and CodeGen.h need from a registry besides the dialects of the
/// input: translations to LLVM IR.
void registerTargetTranslations(DialectRegistry &registry);

} // namespace mlir::moe

#endif // MOE_TARGET_LOWERING_H
