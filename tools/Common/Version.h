//===- Version.h - The version that tools print -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_COMMON_VERSION_H
#define MOE_TOOLS_COMMON_VERSION_H

namespace mlir::moe {

/// Lets `--version` print the version of this project, next to LLVM's. Call it
/// before the command line is parsed.
void addVersionPrinter();

} // namespace mlir::moe

#endif // MOE_TOOLS_COMMON_VERSION_H
