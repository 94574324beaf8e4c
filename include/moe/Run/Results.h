//===- Results.h - Where the results of a run go ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_RESULTS_H
#define MOE_RUN_RESULTS_H

#include "moe/Run/NamedValues.h"
#include "moe/Target/EntrySignature.h"

namespace mlir::moe {

/// The results, by number, that a file of `flag` is for: the one that it names,
/// else the only one or, of a .safetensors file, all.
llvm::Expected<llvm::SmallVector<size_t, 2>>
findResults(const EntrySignature &signature, llvm::StringRef flag,
            const NamedFile &file);

/// A file to write, and the results that it gets (by number): one for .npy, any
/// number for .safetensors.
struct OutputFilePlan {
  std::string file;
  llvm::SmallVector<size_t, 2> results;
};

/// Matches --output flags to results, as findResults does. Checks that the
/// folders can be written to, so that a long run does not end in vain.
llvm::Expected<std::vector<OutputFilePlan>>
planOutputs(const EntrySignature &signature, llvm::ArrayRef<NamedFile> outputs);

/// Writes the files, each whole or not at all. bf16 becomes f32 in .npy.
llvm::Error writeOutputs(const EntrySignature &signature,
                         llvm::ArrayRef<OutputFilePlan> plans,
                         llvm::ArrayRef<HostTensor> results);

} // namespace mlir::moe

#endif // MOE_RUN_RESULTS_H
