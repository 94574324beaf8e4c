//===- RemarkFlags.h - The remark flags of mlir-opt -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_COMMON_REMARKFLAGS_H
#define MOE_TOOLS_COMMON_REMARKFLAGS_H

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Error.h"

namespace mlir {
class MLIRContext;
} // namespace mlir

namespace mlir::moe {

/// The remark flags of mlir-opt, with the same names and meaning. Only
/// MlirOptMain has them, so a tool of its own must declare them again.
class RemarkFlags {
public:
  explicit RemarkFlags(llvm::cl::OptionCategory &category);

  /// Sets up remarks of `context`, when a filter asks for any. Fails when the
  /// file for them cannot be written.
  llvm::Error enable(MLIRContext &context) const;

private:
  enum class Format { Print, YAML, Bitstream };
  enum class Policy { All, Final };
  using Filter = llvm::cl::opt<std::string>;

  llvm::cl::opt<Format> format;
  llvm::cl::opt<Policy> policy;
  Filter filterAll, filterPassed, filterMissed, filterFailed, filterAnalysis;
  llvm::cl::opt<std::string> file;
};

} // namespace mlir::moe

#endif // MOE_TOOLS_COMMON_REMARKFLAGS_H
