//===- Weights.h - The tensors that moe.param names -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_WEIGHTS_H
#define MOE_RUN_WEIGHTS_H

#include "moe/Support/BoundTensor.h"
#include "moe/Target/EntrySignature.h"

namespace mlir::moe {

/// A checkpoint, or a folder of .npy files that are named as the parameters or
/// as the arguments.
class Weights {
public:
  static llvm::Expected<Weights> open(llvm::StringRef path);

  /// Binds what the `moe.param` of `argument` names to `shape`, whose negative
  /// sizes take what the file has.
  llvm::Expected<BoundTensor> bind(const EntryTensor &argument,
                                   llvm::ArrayRef<int64_t> shape);

private:
  std::optional<Checkpoint> checkpoint;
  std::string folder; // Of .npy files, without a checkpoint.
};

} // namespace mlir::moe

#endif // MOE_RUN_WEIGHTS_H
