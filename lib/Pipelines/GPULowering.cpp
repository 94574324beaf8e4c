//===- GPULowering.cpp - From layers to kernels and their launches --------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BufferPipeline.h"
#include "RoundedArithmetic.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Conversion/Passes.h"
#include "moe/Pipelines/Passes.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Target/Passes.h"

using namespace mlir;
using namespace mlir::moe;

void mlir::moe::buildGPUBufferPipeline(OpPassManager &pm,
                                       const GPULoweringOptions &options) {
  pm.addPass(createCanonicalizerPass());
  // Rows are combined by a kernel of their own, in a fixed order.
  buildFusePipeline(pm, /*fuseCombine=*/false);
  pm.addPass(createMoESelectGPUStrategy({options.chip}));
  pm.addPass(createMoEDecomposeForGPU());
  // What the rest decomposes into may hold dense contractions.
  pm.addPass(createMoEContractionToGroupedMatmul());
  pm.addPass(createMoESelectGPUStrategy({options.chip}));
  pm.addPass(createDecomposeSoftmax());
  pm.addPass(createDecomposePack());
  pm.addPass(createConvertElementwiseToLinalgPass());
  addCleanup(pm);
  pm.addPass(createLinalgElementwiseOpFusionPass());
  addCleanup(pm);
  // Nothing is freed: all memory becomes the caller's.
  addBufferization(pm, /*inPlace=*/true);
  pm.addNestedPass<func::FuncOp>(bufferization::createBufferLoopHoistingPass());
  pm.addPass(createConvertBufferizationToMemRefPass());
  addCleanup(pm);
  // Kernels may want memory to work in: it is placed after this.
  pm.addPass(createMoELowerToGPU());
  pm.addPass(createMoEGroupedMatmulToParallelLoops());
  pm.addPass(createStridedCopies({/*all=*/true}));
  pm.addPass(createConvertLinalgToParallelLoopsPass());
  addCleanup(pm);
  // Its scratch memory is placed with the rest.
  pm.addPass(createMoEMergeLaunches());
}

void mlir::moe::buildGPUKernelPipeline(OpPassManager &pm) {
  pm.addPass(createMoELoopsToGPU());
  buildLowerKernelsPipeline(pm);
  addCleanup(pm);
}

void mlir::moe::buildGPULoweringPipeline(OpPassManager &pm,
                                         const GPULoweringOptions &options) {
  buildGPUBufferPipeline(pm, options);
  pm.addPass(createMoEAllocationsToWorkspace());
  addCleanup(pm);
  buildGPUKernelPipeline(pm);
}

void mlir::moe::buildLowerKernelsPipeline(OpPassManager &pm) {
  OpPassManager &kernels = pm.nest<gpu::GPUModuleOp>();
  kernels.addPass(memref::createExpandStridedMetadataPass());
  kernels.addPass(createLowerAffinePass());
  // The same roundings as on a CPU.
  addRoundedArithmetic(kernels);
  kernels.addPass(createMoEDeviceMath());
  kernels.addPass(createCSEPass());
  kernels.addPass(createCanonicalizerPass());
  kernels.addPass(createSCFToControlFlowPass());
  kernels.addPass(createConvertVectorToLLVMPass());
  kernels.addPass(createConvertMathToLLVMPass());
  ConvertToLLVMPassOptions rest;
  rest.filterDialects = {"arith", "cf", "memref"};
  kernels.addPass(createConvertToLLVMPass(rest));
  kernels.addPass(createReconcileUnrealizedCastsPass());
  kernels.addPass(createKeepLoopAnnotations());
  kernels.addPass(createCSEPass());
  kernels.addPass(createCanonicalizerPass());
}
