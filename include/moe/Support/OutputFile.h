//===- OutputFile.h - Files that are written whole or not ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_SUPPORT_OUTPUTFILE_H
#define MOE_SUPPORT_OUTPUTFILE_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace mlir::moe {

/// Writes the file `path` whole or not at all: what `write` prints goes to a
/// temporary file in the same folder, which takes the place of `path` only
/// when `write` succeeded and every byte reached the file. Otherwise `path`
/// stays as it was, and nothing else is left behind. A symbolic link is
/// followed; a device or a pipe is written directly; "-" is standard output.
///
/// Unlike llvm::writeToOutput this reports a full disk as an error.
llvm::Error
writeFileAtomically(llvm::StringRef path,
                    llvm::function_ref<llvm::Error(llvm::raw_ostream &)> write);

/// Checks, before work is done for it, that the file of a flag such as
/// "--output" can be written: it is no folder, and its folder is there and
/// writable. "-" always can.
llvm::Error checkOutputPath(llvm::StringRef flag, llvm::StringRef path);

} // namespace mlir::moe

#endif // MOE_SUPPORT_OUTPUTFILE_H
