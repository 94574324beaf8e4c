//===- CompileInParts.h - Machine code on several cores ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_COMPILEINPARTS_H
#define MOE_TARGET_COMPILEINPARTS_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"
#include "llvm/Target/TargetMachine.h"

namespace mlir::moe {

class StageDumper;

using ObjectFile = llvm::SmallVector<char, 0>;

/// Optimizes `module`, as translateToLLVMIR left it, and makes object files of
/// it, to be linked together. The long bodies of parallel loops, which nobody
/// calls but by their address, are compiled apart from the rest, at the same
/// time on as many cores as there are. What the parts are does not depend on
/// how many that is: the same module gives the same bytes on every machine.
/// Symbols that one part defines and another one uses are hidden: linked, they
/// are as local as they were.
///
/// Dumps the stage "llvm", and "optimized": of several parts, one each. Errors
/// of all parts come back together. May change the module.
llvm::Expected<llvm::SmallVector<ObjectFile>>
compileInParts(llvm::Module &module, llvm::TargetMachine &target,
               StageDumper &stages);

} // namespace mlir::moe

#endif // MOE_TARGET_COMPILEINPARTS_H
