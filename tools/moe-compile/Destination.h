//===- Destination.h - What moe-compile writes, and where -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOECOMPILE_DESTINATION_H
#define MOE_TOOLS_MOECOMPILE_DESTINATION_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <optional>
#include <string>

namespace mlir::moe {

enum class Emit {
  SharedObject,
  Object,
  Assembly,
  LLVMIR,
  MLIR,
  Header,
  PTX,
  Cubin
};

/// What to emit, and into which file ("-": standard output).
struct Destination {
  Emit emit;
  std::string path;
  /// The header beside the output; empty if there is none.
  std::string headerPath;
};

/// Where to write `emit`, or what the suffix of `output` tells to emit. Fails
/// if neither says so.
llvm::Expected<Destination> chooseDestination(llvm::StringRef output,
                                              std::optional<Emit> emit);

/// Writes both files or none: the header takes its place when the output has.
llvm::Error write(const Destination &destination, llvm::ArrayRef<char> bytes,
                  llvm::StringRef header);

} // namespace mlir::moe

#endif // MOE_TOOLS_MOECOMPILE_DESTINATION_H
