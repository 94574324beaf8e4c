//===- HostTensor.h - Tensors of a run in memory ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_HOSTTENSOR_H
#define MOE_RUN_HOSTTENSOR_H

#include "moe/Runtime/moe.h"
#include "moe/Support/BoundTensor.h"
#include "llvm/Support/Memory.h"

namespace mlir::moe {

/// An argument or result of a run: memory of its own, or a tensor of a file
/// used in place. Row-major, and aligned to its elements.
class HostTensor {
public:
  /// Zeros. The error names `name` and the size when there is no such memory.
  static llvm::Expected<HostTensor> allocate(llvm::StringRef name,
                                             llvm::ArrayRef<int64_t> shape,
                                             ElementType type);
  /// The tensor of a file: in place where its bytes are what the argument
  /// needs, else copied (stacked, converted), the file's pages dropped on the
  /// way.
  static llvm::Expected<HostTensor> load(llvm::StringRef name,
                                         BoundTensor tensor);

  llvm::ArrayRef<int64_t> getShape() const { return shape; }
  ElementType getType() const { return type; }
  uint64_t getByteSize() const { return byteSize; }
  /// Whether the data is that of a file, and so for reading only.
  bool isMapped() const { return mapped.has_value(); }
  const uint8_t *getData() const;
  /// Not of a mapped tensor.
  llvm::MutableArrayRef<uint8_t> getMutableBytes();

  /// For the C interface. Valid as long as this object stays where it is.
  moe_tensor getCTensor() const;
  TensorView getView(llvm::StringRef name) const;

private:
  HostTensor() = default;

  llvm::SmallVector<int64_t, 4> shape;
  ElementType type = ElementType::Opaque;
  uint64_t byteSize = 0;
  llvm::sys::OwningMemoryBlock memory;
  std::optional<BoundTensor> mapped;
};

} // namespace mlir::moe

#endif // MOE_RUN_HOSTTENSOR_H
