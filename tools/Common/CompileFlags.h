//===- CompileFlags.h - The flags of tools that compile a layer -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_COMMON_COMPILEFLAGS_H
#define MOE_TOOLS_COMMON_COMPILEFLAGS_H

#include "Common/RemarkFlags.h"
#include "moe/Target/CodeGen.h"

namespace mlir::moe {

/// What a tool that compiles a layer can be told, whatever it does with it.
struct CompileFlags {
  explicit CompileFlags(llvm::cl::OptionCategory &category);

  /// What is wrong with a flag by itself.
  llvm::Error check() const;

  llvm::cl::opt<std::string> entry;
  llvm::cl::opt<std::string> cpu; ///< Empty if none is named.
  llvm::cl::opt<std::string> isa; ///< As parseISAs takes it; may be empty.
  llvm::cl::opt<LoweringKind> lowering;
  llvm::cl::opt<bool> relaxedRounding;
  llvm::cl::opt<bool> packWeights;
  llvm::cl::opt<unsigned> optLevel;
  llvm::cl::opt<std::string> dumpStages;
  RemarkFlags remarks;
};

/// Makes room for a flag of ours whose name an option of LLVM's libraries has,
/// which other tools of LLVM show. To be called before the flag is made.
void removeForeignOption(llvm::StringRef name);

} // namespace mlir::moe

#endif // MOE_TOOLS_COMMON_COMPILEFLAGS_H
