//===- OutputFile.cpp - Files that are written whole or not -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/OutputFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace mlir::moe;

using WriteFn = function_ref<Error(raw_ostream &)>;

/// Runs `write` and makes sure that its bytes have left the stream.
static Error writeAndFlush(raw_fd_ostream &stream, WriteFn write) {
  Error error = write(stream);
  stream.flush();
  std::error_code streamError = stream.error();
  // An error that is left in the stream would end the process.
  stream.clear_error();
  if (!error && streamError)
    return errorCodeToError(streamError);
  return error;
}

/// Devices and pipes have no whole that a rename could protect.
static Error writeInPlace(StringRef path, WriteFn write) {
  std::error_code code;
  raw_fd_ostream stream(path, code, sys::fs::CD_OpenExisting, sys::fs::FA_Write,
                        sys::fs::OF_None);
  if (code)
    return createFileError(path, code);
  if (Error error = writeAndFlush(stream, write))
    return createFileError(path, std::move(error));
  return Error::success();
}

static Error writeAndRename(StringRef path, WriteFn write) {
  Expected<sys::fs::TempFile> file =
      sys::fs::TempFile::create(path + ".%%%%%%%%.tmp");
  if (!file)
    return createFileError(
        path,
        createStringError("cannot write there: " + toString(file.takeError()) +
                          "; the folder must exist and be writable"));
  Error error = Error::success();
  {
    raw_fd_ostream stream(file->FD, /*shouldClose=*/false);
    error = writeAndFlush(stream, write);
  }
  if (error) {
    consumeError(file->discard());
    return createFileError(path, std::move(error));
  }
  if (Error error = file->keep(path))
    return createFileError(path, std::move(error));
  return Error::success();
}

Error mlir::moe::writeFileAtomically(StringRef path, WriteFn write) {
  if (path == "-") {
    if (Error error = writeAndFlush(outs(), write))
      return createFileError("standard output", std::move(error));
    return Error::success();
  }
  sys::fs::file_status status;
  if (sys::fs::status(path, status))
    return writeAndRename(path, write); // A new file, most often.
  if (sys::fs::is_directory(status))
    return createFileError(
        path, createStringError("is a folder; name a file to write"));
  if (!sys::fs::is_regular_file(status))
    return writeInPlace(path, write);
  SmallString<128> target;
  if (std::error_code code = sys::fs::real_path(path, target))
    return createFileError(path, code);
  return writeAndRename(target, write);
}

Error mlir::moe::checkOutputPath(StringRef flag, StringRef path) {
  if (path == "-")
    return Error::success();
  SmallString<128> folder = sys::path::parent_path(path);
  if (folder.empty())
    folder = ".";
  if (sys::fs::is_directory(path))
    return createStringError(flag + "=" + path +
                             " is a folder; name a file to write");
  if (!sys::fs::is_directory(folder))
    return createStringError(flag + "=" + path + ": there is no folder '" +
                             folder + "'; make it first");
  if (sys::fs::access(folder, sys::fs::AccessMode::Write))
    return createStringError(flag + "=" + path + ": the folder '" + folder +
                             "' cannot be written to");
  return Error::success();
}
