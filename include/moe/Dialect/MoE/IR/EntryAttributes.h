//===- EntryAttributes.h - What functions and arguments carry ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Names of the attributes that functions, their arguments and their results
/// have in this dialect. What one library alone reads and writes is named
/// there.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_ENTRYATTRIBUTES_H
#define MOE_DIALECT_MOE_IR_ENTRYATTRIBUTES_H

#include "llvm/ADT/StringRef.h"

namespace mlir::moe {

/// Of an argument or result: its name in flags and in the C header.
inline constexpr llvm::StringLiteral kNameAttr("moe.name");

/// Of an argument: the tensor of a checkpoint that it is bound to. "{expert}"
/// in it stands for an expert's number.
inline constexpr llvm::StringLiteral kParamAttr("moe.param");

/// Of a function that takes packed weights: the symbol of the one that packs
/// them.
inline constexpr llvm::StringLiteral kPackAttr("moe.pack");

/// Of the same function: the numbers of its arguments that the other one's
/// results are for, in the order of these results (array<i32>).
inline constexpr llvm::StringLiteral kPackedAttr("moe.packed");

/// Of a function that moe-prepare-entry made an entry: what moe-create-c-entry
/// has to know, {results = N, shapes = @NAME.shapes}. Passes between the two
/// add to it.
inline constexpr llvm::StringLiteral kEntryAttr("moe.entry");

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_IR_ENTRYATTRIBUTES_H
