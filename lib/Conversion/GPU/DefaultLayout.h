//===- DefaultLayout.h - Operands that lie as kernels want them -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_DEFAULTLAYOUT_H
#define LIB_CONVERSION_GPU_DEFAULTLAYOUT_H

#include "mlir/IR/Operation.h"
#include "mlir/IR/ValueRange.h"

namespace mlir::moe {

/// Gives `op`, which works on memrefs, copies in the default layout of those
/// that are in another one; what it writes is copied back after it. Layouts are
/// not known before bufferization, when it is decided that `op` has a kernel.
/// With `values`, only those of them. Returns false, and changes nothing, where
/// all are in the default layout.
bool copyToDefaultLayout(Operation *op, ValueRange values = {});

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_DEFAULTLAYOUT_H
