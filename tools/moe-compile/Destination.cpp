//===- Destination.cpp - What moe-compile writes, and where -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Destination.h"

#include "moe/Support/OutputFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir::moe;
using llvm::ArrayRef;
using llvm::SmallString;
using llvm::StringRef;

static bool isText(Emit emit) {
  return emit != Emit::SharedObject && emit != Emit::Object &&
         emit != Emit::Cubin;
}

static std::optional<Emit> getEmitOfSuffix(StringRef path) {
  return llvm::StringSwitch<std::optional<Emit>>(
             llvm::sys::path::extension(path))
      .Case(".so", Emit::SharedObject)
      .Case(".o", Emit::Object)
      .Cases({".s", ".asm"}, Emit::Assembly)
      .Case(".ll", Emit::LLVMIR)
      .Case(".mlir", Emit::MLIR)
      .Case(".h", Emit::Header)
      .Case(".ptx", Emit::PTX)
      .Case(".cubin", Emit::Cubin)
      .Default(std::nullopt);
}

llvm::Expected<Destination>
mlir::moe::chooseDestination(StringRef output, std::optional<Emit> emit) {
  Destination destination;
  destination.path = output.str();
  if (!emit)
    emit = getEmitOfSuffix(output);
  if (emit) {
    destination.emit = *emit;
  } else if (output.empty()) {
    return llvm::createStringError(
        "where to? Name a file with -o, or a text with --emit");
  } else {
    return llvm::createStringError(
        "the suffix of '" + output +
        "' does not tell what to emit; add "
        "--emit=so|obj|asm|llvm|mlir|header|ptx|cubin");
  }
  if (destination.path.empty()) {
    if (!isText(destination.emit))
      return llvm::createStringError("name the output with -o");
    destination.path = "-";
  }
  if (destination.path != "-" && (destination.emit <= Emit::Assembly)) {
    SmallString<128> path(destination.path);
    llvm::sys::path::replace_extension(path, "h");
    destination.headerPath = path.str();
    if (llvm::sys::fs::is_directory(path))
      return llvm::createStringError("the header '" + path.str() +
                                     "' is a folder");
  }
  return destination;
}

static llvm::Error writeBytes(StringRef path, ArrayRef<char> bytes) {
  return writeFileAtomically(path, [&](llvm::raw_ostream &os) {
    os.write(bytes.data(), bytes.size());
    return llvm::Error::success();
  });
}

llvm::Error mlir::moe::write(const Destination &destination,
                             ArrayRef<char> bytes, StringRef header) {
  if (destination.headerPath.empty())
    return writeBytes(destination.path, bytes);
  return writeFileAtomically(destination.headerPath,
                             [&](llvm::raw_ostream &os) {
                               os << header;
                               return writeBytes(destination.path, bytes);
                             });
}
