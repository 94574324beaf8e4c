//===- InitAll.cpp - Registration of everything the project has -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/InitAll.h"

#include "mlir/IR/DialectRegistry.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Target/Passes.h"

using namespace mlir;

void mlir::moe::registerAllDialects(DialectRegistry &registry) {
  registry.insert<MoEDialect>();
}

void mlir::moe::registerAllExtensions(DialectRegistry &registry) {
  registerAggregatedOpInterfaceExternalModels(registry);
  registerBufferizableOpInterfaceExternalModels(registry);
  registerRuntimeVerifiableOpInterfaceExternalModels(registry);
}

void mlir::moe::registerAllPasses() {
  registerMoEPasses();
  registerMoETargetPasses();
  registerPipelines();
}
