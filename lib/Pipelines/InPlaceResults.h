//===- InPlaceResults.h - Which results may be made in place ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_PIPELINES_INPLACERESULTS_H
#define MOE_LIB_PIPELINES_INPLACERESULTS_H

#include <memory>

namespace mlir {
class Pass;

namespace moe {

/// Drops `restrict` of each bufferization.materialize_in_destination that
/// empty-tensor elimination must not compute in place.
std::unique_ptr<Pass> createInPlaceResultsPass();

} // namespace moe
} // namespace mlir

#endif // MOE_LIB_PIPELINES_INPLACERESULTS_H
