//===- PackWeights.h - Layers with packed weights ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Layers that take packed weights (moe/Dialect/MoE/Utils/PackedWeights.h), and
/// the functions that pack them.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_PACKWEIGHTS_H
#define MOE_DIALECT_MOE_TRANSFORMS_PACKWEIGHTS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"
#include <string>

namespace mlir::moe {

/// The `moe.param` of a packed tensor, from that of the tensor that it is made
/// of: "a.{expert}.b" becomes "a.b.packed". Two tensors may get the same of it;
/// packWeights makes them differ.
std::string getPackedParam(llvm::StringRef param);

/// Lets the moe.grouped_matmuls of `layer`, on tensors, read packed weights,
/// and returns the function beside it that packs them; null where there is
/// nothing to pack. Missed remarks say which weights moe-pack-weights declines.
/// `layer` must be in an op with a symbol table. Emits an error where something
/// else has the name of that function.
FailureOr<func::FuncOp> packWeights(func::FuncOp layer);

/// The function that packs the weights of `layer`; null if there is none.
func::FuncOp findPack(func::FuncOp layer);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_PACKWEIGHTS_H
