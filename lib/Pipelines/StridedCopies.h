//===- StridedCopies.h - Copies that are no memcpy --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_PIPELINES_STRIDEDCOPIES_H
#define MOE_LIB_PIPELINES_STRIDEDCOPIES_H

#include <memory>

namespace mlir {
class Pass;

namespace moe {

/// Turns each memref.copy that LLVM has no memcpy for into a linalg.generic.
std::unique_ptr<Pass> createStridedCopiesPass();

} // namespace moe
} // namespace mlir

#endif // MOE_LIB_PIPELINES_STRIDEDCOPIES_H
