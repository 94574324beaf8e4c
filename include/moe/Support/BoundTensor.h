//===- BoundTensor.h - Tensors of files as function arguments ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_SUPPORT_BOUNDTENSOR_H
#define MOE_SUPPORT_BOUNDTENSOR_H

#include "moe/Support/QuantizedTensor.h"

namespace mlir::moe {

/// What stands in a parameter's name for the number of an expert.
inline constexpr llvm::StringLiteral kExpertPlaceholder = "{expert}";

/// One tensor of a file, or one tensor an expert stacked to `E x ...`, checked
/// against the type that a function's argument has. Where the file has the
/// bytes that the function needs they are used in place; otherwise `copyTo`
/// gathers and converts them, dropping each page of the file once it is copied,
/// so that memory never holds both copies. What a checkpoint holds as codes and
/// scales (QuantizedTensor) is dequantized on the way.
///
/// In the types below integers are those of the IR, without a sign: i8 takes a
/// U8 tensor's bytes as they are. A wider or narrower integer is converted
/// value by value. The bytes of a bool must be 0 or 1, since compiled code
/// relies on that.
class BoundTensor {
public:
  /// Binds one tensor. A negative dimension of `shape` takes what the tensor
  /// has; all others must be equal.
  static llvm::Expected<BoundTensor>
  bind(MappedTensor tensor, llvm::ArrayRef<int64_t> shape, ElementType type);

  /// Binds the tensor `name` of a checkpoint. A name with `{expert}` in it, as
  /// in "model.layers.0.mlp.experts.{expert}.gate_proj.weight", stands for the
  /// tensors of experts 0 ... E-1, which must have one shape and one type and
  /// be all that the checkpoint has under such a name; the first dimension of
  /// `shape` is E (negative: as many as there are). A name that is there in a
  /// quantized layout only stands for the dequantized tensor.
  static llvm::Expected<BoundTensor> bind(Checkpoint &checkpoint,
                                          llvm::StringRef name,
                                          llvm::ArrayRef<int64_t> shape,
                                          ElementType type);

  /// The shape without negative dimensions: `[E, ...]` for experts.
  llvm::ArrayRef<int64_t> getShape() const { return shape; }
  ElementType getType() const { return type; }
  /// What `copyTo` writes.
  uint64_t getByteSize() const { return byteSize; }

  /// The data in place, or null when it must be copied: it is stacked,
  /// converted, or not aligned. Valid as long as this object lives, and for
  /// reading only.
  const uint8_t *getMappedData() const;

  /// Fills `destination`, of `getByteSize()` bytes. Fails when an integer does
  /// not fit its type; part of `destination` is then written.
  llvm::Error copyTo(llvm::MutableArrayRef<uint8_t> destination) const;

  /// A line for the user when the values are converted ("'w' (F32 in w.npy) is
  /// rounded to nearest even to bf16") or dequantized; empty when they are not.
  llvm::StringRef getNote() const { return note; }

private:
  BoundTensor() = default;
  static llvm::Expected<BoundTensor> bindExperts(Checkpoint &checkpoint,
                                                 llvm::StringRef pattern,
                                                 llvm::ArrayRef<int64_t> shape,
                                                 ElementType type);
  llvm::Error adopt(Checkpoint &checkpoint, llvm::StringRef name,
                    llvm::ArrayRef<int64_t> expected);
  llvm::Error adopt(MappedTensor tensor, llvm::ArrayRef<int64_t> expected);
  llvm::Error adopt(QuantizedTensor tensor, llvm::ArrayRef<int64_t> expected);
  llvm::ArrayRef<int64_t> getPartShape() const;
  llvm::Error finish(llvm::StringRef name);
  void writeNote(llvm::StringRef name);

  llvm::SmallVector<int64_t, 4> shape;
  ElementType type = ElementType::Opaque;
  uint64_t byteSize = 0;
  std::vector<MappedTensor> parts;             // One an expert, or just one.
  std::vector<QuantizedTensor> quantizedParts; // Or these.
  bool stacked = false;
  std::string note;
};

} // namespace mlir::moe

#endif // MOE_SUPPORT_BOUNDTENSOR_H
