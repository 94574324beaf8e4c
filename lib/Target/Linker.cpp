//===- Linker.cpp - Makes a shared object of an object ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/Linker.h"

#include "llvm/BinaryFormat/Magic.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include <dlfcn.h>
#include <link.h>

using namespace mlir::moe;
using llvm::ArrayRef;
using llvm::SmallString;
using llvm::SmallVector;
using llvm::StringRef;

//===----------------------------------------------------------------------===//
// Which linker
//===----------------------------------------------------------------------===//

SmallVector<StringRef> mlir::moe::getLinkerFolders() {
  static const std::string self =
      llvm::sys::path::parent_path(
          llvm::sys::fs::getMainExecutable(nullptr, (void *)&getLinkerFolders))
          .str();
  return {self, MOE_LLVM_TOOLS_DIR};
}

llvm::Expected<std::string> mlir::moe::findLinker(StringRef requested,
                                                  ArrayRef<StringRef> folders) {
  if (!requested.empty()) {
    llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName(requested);
    if (path && llvm::sys::fs::can_execute(*path))
      return *path;
    return llvm::createStringError("there is no program '" + requested +
                                   "' to link with");
  }
  constexpr StringRef names[] = {"ld.lld", "ld.lld-22", "ld",
                                 "cc",     "clang",     "gcc"};
  for (StringRef name : names)
    if (llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName(name))
      return *path;
  // An empty list would mean PATH again.
  for (StringRef folder : folders)
    for (StringRef name : names)
      if (auto path = llvm::sys::findProgramByName(name, folder))
        return *path;
  return llvm::createStringError("a shared object needs a linker, but there is "
                                 "no ld.lld, ld, cc, clang or "
                                 "gcc in PATH; install one, name one with "
                                 "--linker=PATH, or make an object "
                                 "file with --emit=obj and link it elsewhere");
}

//===----------------------------------------------------------------------===//
// Linking
//===----------------------------------------------------------------------===//

/// The file of a library that this process has loaded; empty if it has not.
/// Linkers that are no compiler drivers do not know where the C library is.
static std::string findLoadedLibrary(const char *name) {
  void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (!handle)
    return {};
  struct link_map *map = nullptr;
  std::string path;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map)
    path = map->l_name;
  dlclose(handle);
  return path;
}

static bool isLinkerProper(StringRef linker) {
  StringRef name = llvm::sys::path::filename(linker);
  return name.starts_with("ld") || name.contains("lld");
}

/// The command line of a linker or a compiler driver.
static std::vector<std::string>
makeArguments(const LinkOptions &options, StringRef object, StringRef output) {
  std::vector<std::string> arguments = {options.linker, "-shared", "-o",
                                        output.str(), object.str()};
  bool isDriver = !isLinkerProper(options.linker);
  auto add = [&](StringRef argument) {
    if (isDriver)
      arguments.push_back("-Xlinker");
    arguments.push_back(argument.str());
  };
  for (StringRef argument : {"-soname", options.soname.c_str(), "-z",
                             "noexecstack", "-z", "relro", "--as-needed"})
    add(argument);
  if (!options.isNative)
    return arguments;
  if (isDriver) {
    arguments.push_back("-lm");
  } else {
    for (const char *name : {"libm.so.6", "libc.so.6"}) {
      std::string path = findLoadedLibrary(name);
      // Without the library its symbols stay open, to be found at load time.
      if (path.empty())
        return arguments;
      arguments.push_back(path);
    }
  }
  add("-z");
  add("defs");
  return arguments;
}

namespace {

/// A file that goes when this goes.
class TemporaryFile {
public:
  static llvm::Expected<TemporaryFile> create(StringRef suffix) {
    SmallString<128> path;
    if (std::error_code error =
            llvm::sys::fs::createTemporaryFile("moe-compile", suffix, path))
      return llvm::createStringError(error, "cannot make a temporary file: " +
                                                error.message());
    return TemporaryFile(path);
  }

  StringRef getPath() const { return path; }

  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> read() const {
    auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                              /*RequiresNullTerminator=*/false,
                                              /*IsVolatile=*/true);
    if (!buffer)
      return llvm::createStringError(buffer.getError(),
                                     "cannot read '" + path + "'");
    return std::move(*buffer);
  }

private:
  explicit TemporaryFile(StringRef path)
      : path(path), remover(std::make_unique<llvm::FileRemover>(path)) {}

  std::string path;
  std::unique_ptr<llvm::FileRemover> remover;
};

} // namespace

static llvm::Error writeObject(ArrayRef<char> object, StringRef path) {
  std::error_code error;
  llvm::raw_fd_ostream os(path, error);
  if (!error) {
    os << StringRef(object.data(), object.size());
    os.close();
    error = os.error();
    os.clear_error();
  }
  if (error)
    return llvm::createStringError(error, "cannot write '" + path +
                                              "': " + error.message());
  return llvm::Error::success();
}

/// Runs the linker; what it prints becomes the error if it fails.
static llvm::Error runLinker(const std::vector<std::string> &arguments,
                             const TemporaryFile &log) {
  SmallVector<StringRef> pointers(arguments.begin(), arguments.end());
  std::optional<StringRef> redirects[] = {StringRef(), log.getPath(),
                                          log.getPath()};
  std::string message;
  int status = llvm::sys::ExecuteAndWait(
      arguments.front(), pointers, std::nullopt, redirects, 0, 0, &message);
  if (status == 0)
    return llvm::Error::success();
  if (message.empty()) {
    message = "exit code " + std::to_string(status);
    auto text = log.read();
    if (!text)
      return text.takeError();
    if (StringRef output = (*text)->getBuffer().trim(); !output.empty())
      message += ": " + output.str();
  }
  return llvm::createStringError("linking with '" + arguments.front() +
                                 "' failed: " + message);
}

llvm::Expected<SmallVector<char, 0>>
mlir::moe::linkSharedObject(ArrayRef<char> object, const LinkOptions &options) {
  auto input = TemporaryFile::create("o");
  if (!input)
    return input.takeError();
  auto output = TemporaryFile::create("so");
  if (!output)
    return output.takeError();
  auto log = TemporaryFile::create("log");
  if (!log)
    return log.takeError();
  if (llvm::Error error = writeObject(object, input->getPath()))
    return error;
  if (llvm::Error error = runLinker(
          makeArguments(options, input->getPath(), output->getPath()), *log))
    return error;
  auto linked = output->read();
  if (!linked)
    return linked.takeError();
  StringRef bytes = (*linked)->getBuffer();
  if (llvm::identify_magic(bytes) != llvm::file_magic::elf_shared_object)
    return llvm::createStringError(
        "'" + options.linker +
        "' reported success, but wrote no ELF shared object (" +
        std::to_string(bytes.size()) +
        " bytes); name a linker such as ld.lld, or a compiler driver such as "
        "cc");
  return SmallVector<char, 0>(bytes.begin(), bytes.end());
}
