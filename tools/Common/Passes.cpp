//===- Passes.cpp - Registers the passes of the tools -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Common/Registration.h"

#include "mlir/InitAllPasses.h"
#include "moe/InitAll.h"

void mlir::moe::registerToolPasses() {
  mlir::registerAllPasses();
  moe::registerAllPasses();
}
