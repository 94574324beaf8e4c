//===- NamedValues.h - Flags that name a tensor -----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The texts that flags of moe-run take: "x=x.npy", "x=64x2048", "ids=0..7".
/// What they name is looked up later.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_NAMEDVALUES_H
#define MOE_RUN_NAMEDVALUES_H

#include "moe/Run/RandomFill.h"
#include "moe/Support/TensorFile.h"

namespace mlir::moe {

/// "FILE", "NAME=FILE", "NAME=FILE.safetensors:TENSOR".
struct NamedFile {
  std::string name;   ///< Of an argument or result; empty when not given.
  std::string file;   ///< Ends in .npy or .safetensors.
  std::string tensor; ///< In a .safetensors file; empty when not given.

  bool isSafetensors() const;
};
llvm::Expected<NamedFile> parseNamedFile(llvm::StringRef text);

/// "NAME=64x2048".
struct NamedShape {
  std::string name;
  llvm::SmallVector<int64_t, 4> shape;
};
llvm::Expected<NamedShape> parseNamedShape(llvm::StringRef text);

/// "NAME=VALUE", "NAME=LOW..HIGH".
struct NamedFill {
  std::string name;
  FillRule rule;
};
llvm::Expected<NamedFill> parseNamedFill(llvm::StringRef text);

/// The tensor that `source` names. Without a tensor's name a .safetensors file
/// gives the one called `defaultName`, or else its only one.
llvm::Expected<MappedTensor> openTensor(const NamedFile &source,
                                        llvm::StringRef defaultName);

/// "'x', 'w', and 3 more".
std::string listNames(llvm::ArrayRef<std::string> names);

/// "64x2048"; "scalar" when there are no sizes.
std::string formatShape(llvm::ArrayRef<int64_t> shape);

} // namespace mlir::moe

#endif // MOE_RUN_NAMEDVALUES_H
