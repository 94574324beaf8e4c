//===- Fuse.cpp - From graph-level to kernel-level ops ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Pipelines/Passes.h"
#include "moe/Pipelines/Pipelines.h"

using namespace mlir;
using namespace mlir::moe;

void mlir::moe::buildFusePipeline(OpPassManager &pm, bool fuseCombine) {
  OpPassManager pipeline(ModuleOp::getOperationName());
  pipeline.addPass(createCanonicalizerPass());
  pipeline.addPass(createMoEExpertToGroupedMatmul());
  pipeline.addPass(createMoEFuseDispatch());
  if (fuseCombine)
    pipeline.addPass(createMoEFuseCombine());
  pipeline.addPass(
      createMoEFuseRouting()); // Of the plans that dispatches became.
  pipeline.addPass(createCanonicalizerPass());
  pipeline.addPass(createCSEPass());
  pm.addPass(createRunOnMoEFunctionsPass(std::move(pipeline)));
}
