//===- GeneralLowering.cpp - The pipeline for any valid program -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BufferPipeline.h"
#include "RoundedArithmetic.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Bufferization/Pipelines/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Pipelines/Passes.h"
#include "moe/Pipelines/Pipelines.h"

using namespace mlir;
using namespace mlir::moe;

void mlir::moe::addCleanup(OpPassManager &pm) {
  pm.addPass(createCSEPass());
  pm.addPass(createCanonicalizerPass());
}

void mlir::moe::addBufferization(OpPassManager &pm, bool inPlace) {
  if (inPlace) {
    // A yielded tensor.empty becomes the slice that it is inserted into:
    // without this, results of expert bodies are computed aside and copied.
    pm.addPass(createSeparateFills());
    pm.addPass(createInPlaceResults());
    pm.addPass(bufferization::createEmptyTensorEliminationPass());
  }
  bufferization::OneShotBufferizePassOptions options;
  options.bufferizeFunctionBoundaries = true;
  options.functionBoundaryTypeConversion =
      bufferization::LayoutMapOption::IdentityLayoutMap;
  // A loop may carry a tensor that its body cannot compute in place.
  options.allowReturnAllocsFromLoops = true;
  pm.addPass(bufferization::createOneShotBufferizePass(options));
  addCleanup(pm);
}

/// Frees what is allocated. Does not take ops with regions.
static void addDeallocation(OpPassManager &pm) {
  pm.addNestedPass<func::FuncOp>(bufferization::createBufferLoopHoistingPass());
  bufferization::buildBufferDeallocationPipeline(
      pm, bufferization::BufferDeallocationPipelineOptions());
}

/// Tensors to loops on memrefs; `afterBufferization` lowers what
/// kept its op.
static void addBufferPipeline(OpPassManager &pm, bool keepConfigured,
                              bool plainLoops,
                              llvm::function_ref<void()> afterBufferization) {
  pm.addPass(createMoEDecompose({keepConfigured}));
  pm.addPass(createDecomposeSoftmax());
  pm.addPass(createDecomposePack());
  pm.addPass(createConvertElementwiseToLinalgPass());
  addCleanup(pm);
  pm.addPass(createLinalgElementwiseOpFusionPass());
  addCleanup(pm);
  addBufferization(pm, /*inPlace=*/!plainLoops);
  afterBufferization();
  addDeallocation(pm);
  pm.addPass(createConvertBufferizationToMemRefPass());
  pm.addPass(createStridedCopies());
  if (!plainLoops)
    pm.addPass(createMoELinalgReductionsToLoops());
  pm.addPass(createConvertLinalgToLoopsPass());
  addCleanup(pm);
}

void mlir::moe::buildGeneralBufferPipeline(
    OpPassManager &pm, const GeneralLoweringOptions &options) {
  pm.addPass(createCanonicalizerPass());
  if (options.runtimeVerification)
    pm.addPass(createGenerateRuntimeVerificationPass());
  addBufferPipeline(pm, /*keepConfigured=*/false, options.plainLoops, [] {});
}

void mlir::moe::buildCPUBufferPipeline(OpPassManager &pm,
                                       const CPULoweringOptions &options) {
  pm.addPass(createCanonicalizerPass());
  if (options.runtimeVerification)
    pm.addPass(createGenerateRuntimeVerificationPass());
  buildFusePipeline(pm);
  if (options.relaxedRounding)
    pm.addPass(createMoERelaxRounding());
  pm.addPass(createMoESplitRoute());
  pm.addPass(createMoESelectCPUStrategy({options.isa}));
  // What the rest decomposes into may hold dense contractions.
  pm.addPass(createMoEDecompose({/*keepConfigured=*/true}));
  pm.addPass(createMoEContractionToGroupedMatmul({/*cutRows=*/true}));
  pm.addPass(createMoESelectCPUStrategy({options.isa}));
  pm.addPass(createMoEPackToVector({options.isa}));
  addBufferPipeline(pm, /*keepConfigured=*/true, /*plainLoops=*/false, [&] {
    pm.addPass(createMoEGroupedMatmulToVector());
    if (StringRef(options.isa).ends_with("-emulated"))
      pm.addPass(createMoEEmulateAMX());
    pm.addPass(createMoEApproximateVectorMath());
    // After it: what decides has a recipe of its own.
    pm.addPass(createMoEGateToVector());
    pm.addPass(createMoEPlanToLoops());
    pm.addPass(createMoEForallToParallel());
  });
  pm.addPass(createMoEOutlineParallel());
}

/// Arithmetic of bf16 and f16 as that of f32, on machines without any of
/// theirs.
static void addFloatWidening(OpPassManager &pm) {
  addRoundedArithmetic(pm);
  // LLVM calls the compiler's run time for bf16 casts on machines without the
  // instructions; an artifact has none to call.
  arith::ArithExpandOpsPassOptions expand;
  expand.includeBf16 = true;
  pm.addPass(arith::createArithExpandOpsPass(expand));
}

void mlir::moe::buildLowerToLLVMPipeline(OpPassManager &pm) {
  addFloatWidening(pm);
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  addCleanup(pm);
  // LLVM would call compiler-rt for powers of floats and integers.
  pm.addPass(createConvertMathToFuncs());
  pm.addPass(createSCFToControlFlowPass());
  // What LLVM has an intrinsic for, then what libm has a function for.
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createConvertMathToLibmPass());
  ConvertVectorToLLVMPassOptions vectors;
  vectors.x86Vector = true;
  pm.addPass(createConvertVectorToLLVMPass(vectors));
  pm.addPass(createConvertToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  addCleanup(pm);
}

void mlir::moe::buildGeneralLoweringPipeline(
    OpPassManager &pm, const GeneralLoweringOptions &options) {
  OpPassManager pipeline(ModuleOp::getOperationName());
  buildGeneralBufferPipeline(pipeline, options);
  buildLowerToLLVMPipeline(pipeline);
  pm.addPass(createRunOnMoEFunctionsPass(std::move(pipeline)));
}

void mlir::moe::buildCPULoweringPipeline(OpPassManager &pm,
                                         const CPULoweringOptions &options) {
  OpPassManager pipeline(ModuleOp::getOperationName());
  buildCPUBufferPipeline(pipeline, options);
  buildLowerToLLVMPipeline(pipeline);
  pm.addPass(createRunOnMoEFunctionsPass(std::move(pipeline)));
}

void mlir::moe::registerPipelines() {
  PassPipelineRegistration<CPULoweringOptions>(
      "moe-cpu-lowering",
      "Lowers the functions that hold moe ops to LLVM, with vector code for "
      "grouped matmuls",
      buildCPULoweringPipeline);
  PassPipelineRegistration<GeneralLoweringOptions>(
      "moe-general-lowering",
      "Lowers the functions that hold moe ops to LLVM, for any valid program: "
      "the reference that other lowerings are checked against",
      buildGeneralLoweringPipeline);
  PassPipelineRegistration<GPULoweringOptions>(
      "moe-gpu-lowering",
      "Lowers all functions to launches of GPU kernels, which touch all memory",
      buildGPULoweringPipeline);
  PassPipelineRegistration<>("moe-lower-kernels",
                             "Lowers GPU kernels to the dialects llvm and nvvm",
                             buildLowerKernelsPipeline);
  PassPipelineRegistration<>(
      "moe-fuse",
      "Fuses gate, dispatch, experts and combine into kernel-level ops",
      [](OpPassManager &pm) { buildFusePipeline(pm); });
}
