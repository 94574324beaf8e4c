//===- Subprocess.cpp - Runs linkers and assemblers -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Subprocess.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include <optional>

using namespace mlir::moe;
using llvm::StringRef;

llvm::Expected<TemporaryFile> TemporaryFile::create(StringRef suffix) {
  llvm::SmallString<128> path;
  if (std::error_code error =
          llvm::sys::fs::createTemporaryFile("moe-compile", suffix, path))
    return llvm::createStringError(error, "cannot make a temporary file: " +
                                              error.message());
  return TemporaryFile(path);
}

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
TemporaryFile::read() const {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false,
                                            /*IsVolatile=*/true);
  if (!buffer)
    return llvm::createStringError(buffer.getError(),
                                   "cannot read '" + path + "'");
  return std::move(*buffer);
}

llvm::Error TemporaryFile::write(llvm::ArrayRef<char> bytes) const {
  std::error_code error;
  llvm::raw_fd_ostream os(path, error);
  if (!error) {
    os << StringRef(bytes.data(), bytes.size());
    os.close();
    error = os.error();
    os.clear_error();
  }
  if (error)
    return llvm::createStringError(error, "cannot write '" + path +
                                              "': " + error.message());
  return llvm::Error::success();
}

llvm::Error mlir::moe::runProgram(const std::vector<std::string> &arguments,
                                  StringRef doing) {
  auto log = TemporaryFile::create("log");
  if (!log)
    return log.takeError();
  llvm::SmallVector<StringRef> pointers(arguments.begin(), arguments.end());
  std::optional<StringRef> redirects[] = {StringRef(), log->getPath(),
                                          log->getPath()};
  std::string message;
  int status = llvm::sys::ExecuteAndWait(
      arguments.front(), pointers, std::nullopt, redirects, 0, 0, &message);
  if (status == 0)
    return llvm::Error::success();
  if (message.empty()) {
    message = "exit code " + std::to_string(status);
    auto text = log->read();
    if (!text)
      return text.takeError();
    if (StringRef output = (*text)->getBuffer().trim(); !output.empty())
      message += ": " + output.str();
  }
  return llvm::createStringError(doing.str() + " with '" + arguments.front() +
                                 "' failed: " + message);
}
