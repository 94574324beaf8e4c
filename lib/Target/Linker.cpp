//===- Linker.cpp - Makes a shared object of objects ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/Linker.h"

#include "Subprocess.h"
#include "llvm/BinaryFormat/Magic.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
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
static std::vector<std::string> makeArguments(const LinkOptions &options,
                                              ArrayRef<StringRef> inputs,
                                              StringRef output) {
  std::vector<std::string> arguments = {options.linker, "-shared", "-o",
                                        output.str()};
  for (StringRef input : inputs)
    arguments.push_back(input.str());
  bool isDriver = !isLinkerProper(options.linker);
  auto add = [&](StringRef argument) {
    if (isDriver)
      arguments.push_back("-Xlinker");
    arguments.push_back(argument.str());
  };
  for (StringRef argument : {"-soname", options.soname.c_str(), "-z",
                             "noexecstack", "-z", "relro", "--as-needed"})
    add(argument);
  // What artifacts have in common is each one's own.
  add("--exclude-libs");
  add("ALL");
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

llvm::Expected<SmallVector<char, 0>>
mlir::moe::linkSharedObject(ArrayRef<ArrayRef<char>> objects,
                            const LinkOptions &options) {
  auto output = TemporaryFile::create("so");
  if (!output)
    return output.takeError();
  auto archive = TemporaryFile::create("a");
  if (!archive)
    return archive.takeError();
  std::vector<TemporaryFile> files;
  SmallVector<StringRef> inputs;
  files.reserve(objects.size()); // Paths stay where they are.
  for (ArrayRef<char> object : objects) {
    auto file = TemporaryFile::create("o");
    if (!file)
      return file.takeError();
    files.push_back(std::move(*file));
    inputs.push_back(files.back().getPath());
    if (llvm::Error error = files.back().write(object))
      return error;
  }
  if (!options.archive.empty()) {
    if (llvm::Error error = archive->write(options.archive))
      return error;
    inputs.push_back(archive->getPath());
  }
  if (llvm::Error error = runProgram(
          makeArguments(options, inputs, output->getPath()), "linking"))
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
