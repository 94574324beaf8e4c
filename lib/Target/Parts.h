//===- Parts.h - What of a module is compiled apart -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_PARTS_H
#define MOE_LIB_TARGET_PARTS_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBufferRef.h"
#include <memory>

namespace mlir::moe {

/// A part of a module, by names.
struct ModulePart {
  /// Functions that it defines.
  llvm::StringSet<> defined;
  /// Functions of another part that it calls, and that are so short that they
  /// may be inlined: it sees their bodies.
  llvm::StringSet<> seen;
  /// Of what it defines.
  unsigned numInstructions = 0;
};

/// Cuts a module. The first part has what is called from outside, all
/// variables, and what is short. Local values that are now used by parts other
/// than their own become hidden. A single part means that the module is as it
/// was.
llvm::SmallVector<ModulePart> cutIntoParts(llvm::Module &module);

/// Reads one part from the bitcode of the whole module.
llvm::Expected<std::unique_ptr<llvm::Module>>
readPart(llvm::MemoryBufferRef bitcode, const ModulePart &part, bool isFirst,
         llvm::LLVMContext &context);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_PARTS_H
