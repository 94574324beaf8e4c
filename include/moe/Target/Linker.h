//===- Linker.h - Makes a shared object of objects --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_LINKER_H
#define MOE_TARGET_LINKER_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>

namespace mlir::moe {

/// The linker to use. `requested` is a path or the name of a program in PATH;
/// when it is empty, the first of ld.lld, ld.lld-22, ld, cc, clang, gcc in
/// PATH, then in `folders`. The error says what was looked for, and what to do.
llvm::Expected<std::string> findLinker(llvm::StringRef requested,
                                       llvm::ArrayRef<llvm::StringRef> folders);

/// Where LLVM's own programs may be: beside this program and beside the LLVM
/// that it was built with.
llvm::SmallVector<llvm::StringRef> getLinkerFolders();

struct LinkOptions {
  /// Path of a linker or compiler driver. A name that begins with "ld" or holds
  /// "lld" says that it is a linker.
  std::string linker;
  /// The SONAME: the name of the file to be, without folders.
  std::string soname;
  /// The objects are for this machine, so its C library can be linked and every
  /// symbol be found. Otherwise undefined symbols stay open.
  bool isNative = true;
  /// The bytes of a library to take functions from; they stay local to the
  /// result. Empty for none.
  llvm::ArrayRef<char> archive;
};

/// Links object files (their bytes) to a shared object that needs nothing but
/// the C library and its libm, and returns its bytes. What the linker prints
/// becomes the error when it fails, an undefined symbol among it.
llvm::Expected<llvm::SmallVector<char, 0>>
linkSharedObject(llvm::ArrayRef<llvm::ArrayRef<char>> objects,
                 const LinkOptions &options);

} // namespace mlir::moe

#endif // MOE_TARGET_LINKER_H
