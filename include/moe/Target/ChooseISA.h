//===- ChooseISA.h - Chooses a version of a layer at run time ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_CHOOSEISA_H
#define MOE_TARGET_CHOOSEISA_H

#include "mlir/IR/BuiltinOps.h"
#include "moe/Target/ISA.h"

namespace mlir::moe {

/// Adds, in the LLVM dialect:
///
///   int32_t NAME.isa(void)
///     The index in `versions` (the best first) of what calls are to run, or a
///     negated status of moe.h. Found out by the first call and kept.
///   int32_t NAME.choose_isa(uint32_t features, const char *name)
///     The same for a machine with these MachineFeatures; `name` is what
///     MOE_ISA says, NULL or empty if it does not say anything.
///     Linux is asked for AMX's tiles before a version with them is chosen;
///     where it refuses, there are none.
///   uint32_t moe.machine_features(void)
///     The MachineFeatures of this machine.
void addChooseISA(ModuleOp module, llvm::StringRef name,
                  llvm::ArrayRef<ISA> versions);

} // namespace mlir::moe

#endif // MOE_TARGET_CHOOSEISA_H
