//===- WriteLayers.cpp - All files or none ----------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Import/Importer.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace mlir::moe;

namespace {
/// Files under temporary names, which vanish unless all are kept.
class PendingFiles {
public:
  ~PendingFiles() {
    for (Pending &pending : files)
      consumeError(pending.file.discard());
  }

  Error add(StringRef path, StringRef text);
  Error keep();

private:
  struct Pending {
    std::string path;
    sys::fs::TempFile file;
  };
  std::vector<Pending> files;
};
} // namespace

Error PendingFiles::add(StringRef path, StringRef text) {
  if (sys::fs::is_directory(path))
    return createFileError(path, make_error_code(std::errc::is_a_directory));
  Expected<sys::fs::TempFile> file =
      sys::fs::TempFile::create(path + ".%%%%%%%%");
  if (!file)
    return createFileError(path, file.takeError());
  files.push_back({path.str(), std::move(*file)});
  raw_fd_ostream stream(files.back().file.FD, /*shouldClose=*/false);
  stream << text;
  stream.flush();
  if (!stream.has_error())
    return Error::success();
  std::error_code code = stream.error();
  stream.clear_error();
  return createFileError(path, code);
}

/// Renaming within a folder does not fail once the files are there.
Error PendingFiles::keep() {
  for (Pending &pending : files)
    if (Error error = pending.file.keep(pending.path))
      return createFileError(pending.path, std::move(error));
  files.clear();
  return Error::success();
}

Expected<std::vector<std::string>>
mlir::moe::writeLayers(ArrayRef<ImportedLayer> layers, StringRef folder) {
  if (std::error_code code = sys::fs::create_directories(folder))
    return createFileError(folder, code);
  PendingFiles files;
  std::vector<std::string> paths;
  for (const ImportedLayer &layer : layers) {
    SmallString<128> path(folder);
    sys::path::append(path, "layer_" + Twine(layer.layer) + ".mlir");
    if (Error error = files.add(path, layer.text))
      return std::move(error);
    paths.push_back(std::string(path));
  }
  if (Error error = files.keep())
    return std::move(error);
  return paths;
}
