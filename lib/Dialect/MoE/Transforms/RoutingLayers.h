//===- RoutingLayers.h - Where a function routes ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_ROUTINGLAYERS_H
#define LIB_DIALECT_MOE_TRANSFORMS_ROUTINGLAYERS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Categories of remarks: the passes' names.
inline constexpr llvm::StringLiteral kInstrumentRemark("moe-instrument");
inline constexpr llvm::StringLiteral kReplayRemark("moe-replay-ids");

/// A moe.dispatch or moe.plan on tensors.
struct RoutingLayer {
  Operation *op;
  Value ids, offsets, slots;

  /// E; kDynamic if unknown.
  int64_t getNumExperts() const;
};

/// The layers at the top level of `func`, in order. Missed remarks of the pass
/// `category` say what is left out: all of a function that others call or that
/// has several blocks, what is inside loops and branches, routing that is fused
/// already or on memrefs, and a gate where nothing is dispatched.
SmallVector<RoutingLayer> findLayers(func::FuncOp func, StringRef category);

/// The one moe.combine of the rows of `layer`; null, with a missed remark of
/// moe-instrument, if there is none or more than one.
CombineOp findCombine(const RoutingLayer &layer);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_ROUTINGLAYERS_H
