//===- PackedFile.h - Packed weights in a file ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A safetensors file with packed weights, to be mapped at the next start. Its
/// metadata says how they lie and what they were:
///
///   moe.layout           moe-panel-32 (moe/Dialect/MoE/Utils/PackedWeights.h)
///   moe.layout_version   1
///   moe.crc32.TENSOR     the CRC-32 of each expert's slab, as 8 hex digits
///
/// Other tensors may be in it, as they are in checkpoints.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_PACKEDFILE_H
#define MOE_RUN_PACKEDFILE_H

#include "moe/Support/TensorFile.h"
#include "moe/Target/EntrySignature.h"

namespace mlir::moe {

inline constexpr llvm::StringLiteral kPackedLayout("moe-panel-32");
inline constexpr llvm::StringLiteral kPackedLayoutVersion("1");

/// A mapped file of packed weights.
class PackedFile {
public:
  /// Opens `path` if it is a .safetensors file that says how its weights are
  /// packed; nothing if it is anything else. Fails on another layout or
  /// version.
  static llvm::Expected<std::optional<PackedFile>> open(llvm::StringRef path);

  /// Checks that the tensor that `moe.param` of `argument` names is there, has
  /// the element type and the sizes of the argument, and that no expert's slab
  /// was damaged: reads all of it, with all threads.
  llvm::Error check(const EntryTensor &argument) const;

private:
  explicit PackedFile(SafetensorsFile file) : file(std::move(file)) {}

  SafetensorsFile file;
};

/// Writes `packed`, tensors of packed weights, and `others`, as they are.
llvm::Error writePackedFile(llvm::StringRef path,
                            llvm::ArrayRef<TensorView> packed,
                            llvm::ArrayRef<TensorView> others);

} // namespace mlir::moe

#endif // MOE_RUN_PACKEDFILE_H
