//===- PackedNames.h - What packed weights are called -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_PACKEDNAMES_H
#define LIB_DIALECT_MOE_TRANSFORMS_PACKEDNAMES_H

#include "PackableWeights.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::moe {

/// The values of `attribute` that arguments and results of `layer` have.
llvm::StringSet<> getNames(func::FuncOp layer, StringRef attribute);

/// What the tensors that an argument becomes are called: `text`, with _0, _1, …
/// behind where they are several. Where one of these is in `taken`, `separator`
/// and a number go between. Adds them to `taken`.
std::string takeNames(StringRef text, StringRef separator, size_t count,
                      llvm::StringSet<> &taken);

/// Sets the attributes of what `weights` become: those of the arguments, with
/// names that nothing else in `layer` has.
void setAttributes(func::FuncOp layer, MutableArrayRef<PackedArgument> weights);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_PACKEDNAMES_H
