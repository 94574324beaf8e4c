//===- Pipelines.h - From moe ops to LLVM -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Pipelines are built from parts, so that a host takes what it needs; the
// registered ones run on the functions that hold moe ops and leave all others
// as they are.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PIPELINES_PIPELINES_H
#define MOE_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

namespace mlir::moe {

struct GeneralLoweringOptions : PassPipelineOptions<GeneralLoweringOptions> {
  GeneralLoweringOptions() = default;
  GeneralLoweringOptions(const GeneralLoweringOptions &other)
      : GeneralLoweringOptions() {
    *this = other;
  }
  GeneralLoweringOptions &operator=(const GeneralLoweringOptions &other) {
    runtimeVerification = other.runtimeVerification;
    plainLoops = other.plainLoops;
    return *this;
  }

  PassOptions::Option<bool> runtimeVerification{
      *this, "runtime-verification",
      llvm::cl::desc(
          "Assert at run time what the verifier cannot see: offsets "
          "that go backwards, slots that collide, sizes that differ"),
      llvm::cl::init(false)};
  PassOptions::Option<bool> plainLoops{
      *this, "plain-loops",
      llvm::cl::desc("A second way to the same results, slower and with less "
                     "of this project in it: upstream's conversion to loops "
                     "for all linalg ops, with sums in memory, and tensors "
                     "that are copied to where they belong"),
      llvm::cl::init(false)};
};

struct CPULoweringOptions : PassPipelineOptions<CPULoweringOptions> {
  CPULoweringOptions() = default;
  CPULoweringOptions(const CPULoweringOptions &other) : CPULoweringOptions() {
    *this = other;
  }
  CPULoweringOptions &operator=(const CPULoweringOptions &other) {
    isa = other.isa;
    relaxedRounding = other.relaxedRounding;
    runtimeVerification = other.runtimeVerification;
    return *this;
  }

  PassOptions::Option<std::string> isa{
      *this, "isa",
      llvm::cl::desc("The vector instructions: generic, avx2, avx512, "
                     "avx512bf16 or amx-bf16; without, what the target says, "
                     "or generic"),
      llvm::cl::init("")};
  PassOptions::Option<bool> relaxedRounding{
      *this, "relaxed-rounding",
      llvm::cl::desc("Round where a matmul stores, not after each operation"),
      llvm::cl::init(false)};
  PassOptions::Option<bool> runtimeVerification{
      *this, "runtime-verification",
      llvm::cl::desc("Assert at run time what the verifier cannot see"),
      llvm::cl::init(false)};
};

struct GPULoweringOptions : PassPipelineOptions<GPULoweringOptions> {
  GPULoweringOptions() = default;
  GPULoweringOptions(const GPULoweringOptions &other) : GPULoweringOptions() {
    *this = other;
  }
  GPULoweringOptions &operator=(const GPULoweringOptions &other) {
    chip = other.chip;
    return *this;
  }

  PassOptions::Option<std::string> chip{
      *this, "chip",
      llvm::cl::desc("The GPU: sm_80, sm_86, sm_89, sm_90, sm_90a or sm_120"),
      llvm::cl::init("sm_80")};
};

/// Graph-level ops → kernel-level ops, on tensors: expert bodies to grouped
/// matmuls, which read tokens through a plan and add into tokens. What cannot
/// be fused stays, so that any program still lowers. Works on the functions
/// that hold moe ops, like moe-general-lowering; registered as `moe-fuse`.
/// Without `fuseCombine`, rows are stored and moe.combine stays.
void buildFusePipeline(OpPassManager &pm, bool fuseCombine = true);

/// Tensors → loops on memrefs, for any valid program: decompose, elementwise
/// ops to linalg, bufferize in place with function boundaries (identity
/// layouts), free what was allocated, linalg to loops. Anchored on a module.
void buildGeneralBufferPipeline(OpPassManager &pm,
                                const GeneralLoweringOptions &options = {});

/// The same with vector code for the grouped matmuls that
/// moe-select-cpu-strategy finds a strategy for; the rest decomposes.
void buildCPUBufferPipeline(OpPassManager &pm,
                            const CPULoweringOptions &options = {});

/// Loops on memrefs → the llvm dialect. bf16 and f16 arithmetic is widened to
/// f32 with a rounding after every operation. Anchored on a module.
void buildLowerToLLVMPipeline(OpPassManager &pm);

/// Tensors → buffers, launches of the kernels that there are for ops, and
/// parallel loops. Anchored on a module.
void buildGPUBufferPipeline(OpPassManager &pm,
                            const GPULoweringOptions &options = {});

/// What is left → kernels as well, and all kernels in the dialects llvm and
/// nvvm: after buildGPUBufferPipeline and moe-allocations-to-workspace. Nothing
/// of the buffers' data is touched by the host. Anchored on a module.
void buildGPUKernelPipeline(OpPassManager &pm);

/// Both, with moe-allocations-to-workspace between them; for all functions of
/// the module it is anchored on. Registered as `moe-gpu-lowering`.
void buildGPULoweringPipeline(OpPassManager &pm,
                              const GPULoweringOptions &options = {});

/// The bodies of gpu.modules that moe-lower-to-gpu made → the dialects llvm and
/// nvvm, which `gpu-module-to-binary` and `moe-emulate-nvvm` take. Anchored on
/// a module; registered as `moe-lower-kernels`.
void buildLowerKernelsPipeline(OpPassManager &pm);

/// Both of the above, on the functions that hold moe ops and on those connected
/// with them by calls; anchored on any op with a symbol table. Registered as
/// `moe-general-lowering`. What it makes may allocate with malloc.
void buildGeneralLoweringPipeline(OpPassManager &pm,
                                  const GeneralLoweringOptions &options = {});

/// The CPU's counterpart, registered as `moe-cpu-lowering`.
void buildCPULoweringPipeline(OpPassManager &pm,
                              const CPULoweringOptions &options = {});

void registerPipelines();

} // namespace mlir::moe

#endif // MOE_PIPELINES_PIPELINES_H
