//===- BufferPipeline.h - From tensors to buffers ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_PIPELINES_BUFFERPIPELINE_H
#define LIB_PIPELINES_BUFFERPIPELINE_H

#include "mlir/Pass/PassManager.h"

namespace mlir::moe {

void addCleanup(OpPassManager &pm);

/// Tensors to memrefs in identity layouts, which nobody frees yet. `inPlace`:
/// results are computed where they belong.
void addBufferization(OpPassManager &pm, bool inPlace);

} // namespace mlir::moe

#endif // LIB_PIPELINES_BUFFERPIPELINE_H
