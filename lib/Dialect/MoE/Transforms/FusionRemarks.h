//===- FusionRemarks.h - Why something was not fused ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Missed remarks say what is not fused, why, and what to change.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_FUSIONREMARKS_H
#define LIB_DIALECT_MOE_TRANSFORMS_FUSIONREMARKS_H

#include "mlir/IR/Remarks.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

namespace mlir::moe {

/// Categories of the remarks: the passes' names.
inline constexpr llvm::StringLiteral kRoutingRemark("moe-fuse-routing");
inline constexpr llvm::StringLiteral
    kExpertRemark("moe-expert-to-grouped-matmul");
inline constexpr llvm::StringLiteral kDispatchRemark("moe-fuse-dispatch");
inline constexpr llvm::StringLiteral kCombineRemark("moe-fuse-combine");

/// A missed remark of the pass `category` at `at`: `what` is not done for
/// `reason`; `advice`, if any, is what to change.
inline void remarkMissed(StringRef category, Operation *op, Location at,
                         StringRef what, StringRef reason, StringRef advice) {
  auto function = op->getParentOfType<FunctionOpInterface>();
  remark::detail::InFlightRemark missed = remark::missed(
      at, remark::RemarkOpts::name(what).category(category).function(
              function ? function.getName() : StringRef()));
  if (!missed)
    return;
  missed << remark::add("{0}", what.str());
  missed << remark::reason("{0}", reason.str());
  if (!advice.empty())
    missed << remark::suggest("{0}", advice.str());
}

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_FUSIONREMARKS_H
