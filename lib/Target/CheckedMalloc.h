//===- CheckedMalloc.h - Running out of memory ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_CHECKEDMALLOC_H
#define MOE_LIB_TARGET_CHECKEDMALLOC_H

namespace llvm {
class Module;
} // namespace llvm

namespace mlir::moe {

/// Lets every call of malloc in `module` end the process with abort when there
/// is no memory. Lowered code uses the pointer unseen; near a null pointer a
/// large index reaches memory that is somebody else's.
void checkMalloc(llvm::Module &module);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_CHECKEDMALLOC_H
