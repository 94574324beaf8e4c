//===- Subprocess.h - Runs linkers and assemblers ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_SUBPROCESS_H
#define MOE_LIB_TARGET_SUBPROCESS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include <memory>
#include <string>
#include <vector>

namespace mlir::moe {

/// A file that goes when this goes.
class TemporaryFile {
public:
  static llvm::Expected<TemporaryFile> create(llvm::StringRef suffix);

  llvm::StringRef getPath() const { return path; }

  llvm::Error write(llvm::ArrayRef<char> bytes) const;
  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> read() const;

private:
  explicit TemporaryFile(llvm::StringRef path)
      : path(path), remover(std::make_unique<llvm::FileRemover>(path)) {}

  std::string path;
  std::unique_ptr<llvm::FileRemover> remover;
};

/// Runs a program, the first of `arguments`; what it prints becomes the error
/// if it fails: "`doing` with 'PROGRAM' failed: ...".
llvm::Error runProgram(const std::vector<std::string> &arguments,
                       llvm::StringRef doing);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_SUBPROCESS_H
