//===- SelectKernel.h - From logits to ids and weights ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_SELECTKERNEL_H
#define LIB_CONVERSION_GPU_SELECTKERNEL_H

#include "DeviceRegion.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// A moe.gate, or what a moe.route makes of its logits.
struct SelectProblem {
  /// E and k.
  int64_t numExperts = 0, topK = 0;
  Score score = Score::None;
  SelectOn selectOn = SelectOn::Scores;
  SoftmaxScope scope = SoftmaxScope::All;
  /// Null if there are none.
  GroupsAttr groups;
  RenormalizeAttr renormalize;
  float scale = 1;
  /// Null where not given; mix tells that there is one.
  Value bias, idMap;
  bool hasMix = false;
  /// Destinations.
  Value weights, ids;
  DeviceRegion region;

  /// True if selection or weights read scores, and not just logits.
  bool needsScores() const;
};

/// Threads of a block: a warp a token.
constexpr int64_t kSelectThreads = 128;

/// The problem, on tensors or memrefs; an error says why it is none and what to
/// change.
llvm::Expected<SelectProblem> analyzeSelect(GateOp op);
llvm::Expected<SelectProblem> analyzeSelect(RouteOp op);

/// Builds the body of a kernel that reads logits, and mix if there is one, both
/// T×E in f32, and writes weights and ids. Any number of blocks.
void buildSelectKernel(KernelBuilder &b, const SelectProblem &problem,
                       const IRMapping &toDevice, Value numTokens, Value logits,
                       Value mix);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_SELECTKERNEL_H
