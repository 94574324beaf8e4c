//===- HostTensor.cpp - Tensors of a run in memory --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/HostTensor.h"
#include "moe/Target/EntrySignature.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

using namespace llvm;
using namespace mlir::moe;

/// Asks for pages of 2 MB, as NumPy does: weights that are read from one end to
/// the other miss less often in the tables of pages (docs/CPU.md, Memory). The
/// system may refuse, and pages are small then.
static void askForLargePages(const sys::MemoryBlock &memory) {
#ifdef __linux__
  constexpr size_t kLeastBytes = 4 << 20;
  if (memory.allocatedSize() >= kLeastBytes)
    (void)madvise(memory.base(), memory.allocatedSize(), MADV_HUGEPAGE);
#endif
}

Expected<HostTensor> HostTensor::allocate(StringRef name,
                                          ArrayRef<int64_t> shape,
                                          ElementType type) {
  HostTensor tensor;
  tensor.shape.assign(shape.begin(), shape.end());
  tensor.type = type;
  std::optional<uint64_t> bytes = getTensorBytes(shape, type);
  std::error_code code;
  if (bytes && *bytes) {
    tensor.byteSize = *bytes;
    // Pages of the system's own: they count when they are touched, and leave
    // with the tensor.
    tensor.memory = sys::OwningMemoryBlock(sys::Memory::allocateMappedMemory(
        *bytes, /*NearBlock=*/nullptr,
        sys::Memory::MF_READ | sys::Memory::MF_WRITE, code));
    askForLargePages(tensor.memory.getMemoryBlock());
  }
  if (!bytes || code)
    return createStringError(quoteName(name) + " is " +
                             formatTensorType(shape, type) + ", " +
                             (bytes ? Twine(*bytes) + " bytes" : "too large") +
                             ": there is no memory for that; make it smaller");
  return tensor;
}

Expected<HostTensor> HostTensor::load(StringRef name, BoundTensor source) {
  if (source.getMappedData() || source.getByteSize() == 0) {
    HostTensor tensor;
    tensor.shape.assign(source.getShape().begin(), source.getShape().end());
    tensor.type = source.getType();
    tensor.byteSize = source.getByteSize();
    tensor.mapped = std::move(source);
    return tensor;
  }
  Expected<HostTensor> tensor =
      allocate(name, source.getShape(), source.getType());
  if (!tensor)
    return tensor;
  if (Error error = source.copyTo(tensor->getMutableBytes()))
    return error;
  return tensor;
}

const uint8_t *HostTensor::getData() const {
  if (mapped)
    return mapped->getMappedData();
  return static_cast<const uint8_t *>(memory.base());
}

MutableArrayRef<uint8_t> HostTensor::getMutableBytes() {
  assert(!mapped && "a file's bytes are for reading only");
  return {static_cast<uint8_t *>(memory.base()), byteSize};
}

moe_tensor HostTensor::getCTensor() const {
  moe_tensor tensor;
  // Compiled functions do not write their arguments.
  tensor.data = const_cast<uint8_t *>(getData());
  tensor.shape = shape.data();
  tensor.strides = nullptr;
  tensor.rank = shape.size();
  tensor.type = *getCType(type);
  return tensor;
}

TensorView HostTensor::getView(StringRef name) const {
  TensorView view;
  view.name = name.str();
  view.type = type;
  view.shape = shape;
  view.data = getData();
  view.byteSize = byteSize;
  return view;
}
