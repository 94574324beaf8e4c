//===- TensorFile.cpp - Tensors and mapped files ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/TensorFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"
#include <algorithm>
#include <limits>
#if LLVM_ON_UNIX
#include <sys/mman.h>
#endif

using namespace llvm;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

bool TensorView::isAligned() const {
  uint64_t alignment = std::max<uint64_t>(1, getElementSize(type));
  return reinterpret_cast<uintptr_t>(data) % alignment == 0;
}

std::optional<uint64_t> mlir::moe::getTensorBytes(ArrayRef<int64_t> shape,
                                                  ElementType type) {
  if (type == ElementType::Opaque)
    return std::nullopt;
  // A zero wins over an overflow only if it is found first.
  if (is_contained(shape, 0))
    return all_of(shape, [](int64_t size) { return size >= 0; })
               ? std::optional<uint64_t>(0)
               : std::nullopt;
  int64_t bytes = getElementSize(type);
  for (int64_t size : shape) {
    std::optional<int64_t> product = checkedMul(bytes, size);
    if (!product || size < 0)
      return std::nullopt;
    bytes = *product;
  }
  return bytes;
}

std::string mlir::moe::formatTensorType(ArrayRef<int64_t> shape,
                                        ElementType type) {
  std::string text;
  raw_string_ostream os(text);
  for (int64_t size : shape) {
    if (size < 0)
      os << "?x";
    else
      os << size << "x";
  }
  os << getName(type);
  return text;
}

std::string mlir::moe::quoteName(StringRef name) {
  constexpr size_t longest = 160;
  std::string text = "'";
  raw_string_ostream os(text);
  printEscapedString(name.take_front(longest), os);
  if (name.size() > longest)
    os << "... (" << name.size() << " bytes)";
  os << "'";
  return text;
}

//===----------------------------------------------------------------------===//
// Mapped files
//===----------------------------------------------------------------------===//

/// The size of the regular file `path`. Looks before anybody opens it: opening
/// a pipe would wait for somebody to write.
static Expected<uint64_t> getRegularFileSize(StringRef path) {
  sys::fs::file_status status;
  if (std::error_code code = sys::fs::status(path, status))
    return createFileError(path, code);
  if (sys::fs::is_directory(status))
    return createFileError(path,
                           createStringError("is a folder; name a file in it"));
  if (!sys::fs::is_regular_file(status))
    return createFileError(
        path, createStringError("is not a regular file, so it cannot be "
                                "mapped; copy it to one first"));
  return status.getSize();
}

Expected<std::shared_ptr<const MappedFile>> MappedFile::open(StringRef path) {
  Expected<uint64_t> size = getRegularFileSize(path);
  if (!size)
    return size.takeError();
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path = path.str();
  if (*size == 0)
    return file; // An empty map is an error of the system.

  Expected<sys::fs::file_t> handle = sys::fs::openNativeFileForRead(path);
  if (!handle)
    return createFileError(path, handle.takeError());
  std::error_code code;
  file->region = sys::fs::mapped_file_region(
      *handle, sys::fs::mapped_file_region::readonly, *size, 0, code);
  sys::fs::closeFile(*handle);
  if (code)
    return createFileError(
        path, createStringError("cannot be mapped: " + code.message()));
  return file;
}

ArrayRef<uint8_t> MappedFile::getBytes() const {
  if (!region)
    return {};
  return {reinterpret_cast<const uint8_t *>(region.const_data()),
          region.size()};
}

void MappedFile::dropPages(ArrayRef<uint8_t> bytes) const {
#if LLVM_ON_UNIX
  if (bytes.empty())
    return;
  constexpr uintptr_t reach = 2 << 20;
  const uint8_t *first = getBytes().begin(), *last = getBytes().end();
  assert(bytes.begin() >= first && bytes.end() <= last &&
         "not a part of this file");
  uintptr_t before = std::min<uintptr_t>(reach, bytes.begin() - first);
  uintptr_t after = std::min<uintptr_t>(reach, last - bytes.end());
  uintptr_t begin =
      alignDown(reinterpret_cast<uintptr_t>(bytes.begin()) - before,
                sys::Process::getPageSizeEstimate());
  uintptr_t end = reinterpret_cast<uintptr_t>(bytes.end()) + after;
  // Advice: when it fails, nothing but memory is lost.
  (void)::madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
#endif
}

void mlir::moe::dropPages(const MappedTensor &tensor) {
  tensor.file->dropPages(tensor.getBytes());
}
