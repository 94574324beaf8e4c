//===- FloatConversions.h - f16 and bf16 without instructions ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_FLOATCONVERSIONS_H
#define MOE_LIB_TARGET_FLOATCONVERSIONS_H

#include "llvm/Support/Error.h"

namespace llvm {
class Module;
} // namespace llvm

namespace mlir::moe {

/// Defines the functions that LLVM calls to convert f16 and bf16 on a machine
/// without instructions for it, in a module that uses these types. They belong
/// to compiler-rt and new versions of libgcc, which an artifact does not need
/// and a JIT does not find. Symbols of the module with these names are internal
/// already, so that they do not clash.
llvm::Error addFloatConversions(llvm::Module &module);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_FLOATCONVERSIONS_H
