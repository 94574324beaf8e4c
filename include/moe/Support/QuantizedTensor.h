//===- QuantizedTensor.h - Codes and scales of checkpoints ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_SUPPORT_QUANTIZEDTENSOR_H
#define MOE_SUPPORT_QUANTIZEDTENSOR_H

#include "moe/Support/Checkpoint.h"

namespace mlir::moe {

/// What the names of quantized tensors end in, after the name that the tensor
/// has in a checkpoint that is not quantized.
inline constexpr llvm::StringLiteral kFp8ScalesSuffix = "_scale_inv";
inline constexpr llvm::StringLiteral kMxfp4BlocksSuffix = "_blocks";
inline constexpr llvm::StringLiteral kMxfp4ScalesSuffix = "_scales";

/// The tensor `name`, which a checkpoint holds as codes and scales in one of
/// the layouts that models are published in. Its values are those that
/// transformers dequantizes to, bit for bit: the product of the code's value
/// and the scale in f32, then rounded once to the type that is asked for.
///
///  - fp8: `name`, F8_E4M3 or F8_E5M2, `...xNxK`, and `name_scale_inv`, a scale
///    (f32, f16, bf16, or ui8 for 2^(s - 127)) for each block of 128x128 values
///    as `...xceil(N/128)xceil(K/128)`: the last blocks may be smaller. Another
///    number of scales that divides N, or K, makes as many blocks of one size.
///  - mxfp4: `name_blocks`, `ExNxGx16xui8`, and `name_scales`, `ExNxGxui8`. A
///    byte holds two e2m1 codes, the one in the lower bits first, and 16 bytes
///    share the scale 2^(s - 127). Dequantized it is `ExKxN` with K = 32 * G:
///    transposed, as transformers has it.
class QuantizedTensor {
public:
  /// Whether an argument of type `type` takes `name` dequantized: `type` is a
  /// float, but not fp8, and the checkpoint has `name` in fp8, or has only
  /// `name_blocks`. Whether that is valid is for `open` to say.
  static llvm::Expected<bool> isNeeded(Checkpoint &checkpoint,
                                       llvm::StringRef name, ElementType type);

  /// The tensor `name`, for which `isNeeded` holds. The error tells what is
  /// missing, or which of the two tensors does not have the shape or type that
  /// goes with the other.
  static llvm::Expected<QuantizedTensor> open(Checkpoint &checkpoint,
                                              llvm::StringRef name);

  /// The shape of the dequantized tensor.
  llvm::ArrayRef<int64_t> getShape() const { return shape; }

  /// "mxfp4", "f8E4M3FN in blocks of 128x128".
  std::string describeLayout() const;

  /// "'w' in 'model.safetensors' is, dequantized from mxfp4, 4x64x32", for an
  /// error.
  std::string describe() const;

  /// The path of the file with the codes.
  llvm::StringRef getPath() const { return codes.file->getPath(); }

  /// Fills `destination`, as many bytes as the shape has in `type`, a float
  /// that is not fp8. The pages of the files are dropped on the way.
  llvm::Error copyTo(ElementType type,
                     llvm::MutableArrayRef<uint8_t> destination) const;

private:
  QuantizedTensor() = default;
  static llvm::Expected<QuantizedTensor> openFp8(Checkpoint &checkpoint,
                                                 llvm::StringRef name);
  static llvm::Expected<QuantizedTensor> openMxfp4(Checkpoint &checkpoint,
                                                   llvm::StringRef name);
  llvm::Error copyFp8(ElementType type, uint8_t *destination) const;
  llvm::Error copyMxfp4(ElementType type, uint8_t *destination) const;

  std::string name;
  bool isMxfp4 = false;
  MappedTensor codes;
  MappedTensor scales;
  llvm::SmallVector<int64_t, 4> shape;
  int64_t blockRows = 0, blockColumns = 0; // Of fp8.
};

} // namespace mlir::moe

#endif // MOE_SUPPORT_QUANTIZEDTENSOR_H
