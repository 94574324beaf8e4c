//===- TensorFile.h - Tensors in .npy and .safetensors files ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Readers map a file into memory and check all of its header before anybody
/// sees a tensor; what they return points into the map. Whatever bytes a file
/// holds, a reader returns tensors that lie within it, or an error that names
/// the file. Writers leave a whole file or none.
///
/// A file must not be changed while it is mapped: one that another process
/// truncates ends this process with SIGBUS.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_SUPPORT_TENSORFILE_H
#define MOE_SUPPORT_TENSORFILE_H

#include "moe/Support/ElementType.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mlir::moe {

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

/// A tensor in memory that somebody else owns: row-major, little-endian,
/// without strides. `data` may lack the alignment of the element type.
struct TensorView {
  std::string name;
  ElementType type = ElementType::Opaque;
  llvm::SmallVector<int64_t, 4> shape;
  const uint8_t *data = nullptr;
  uint64_t byteSize = 0;

  llvm::ArrayRef<uint8_t> getBytes() const { return {data, byteSize}; }
  /// Whether `data` may be read as an array of the element type.
  bool isAligned() const;
};

/// The size in bytes of a tensor, or nothing when it is beyond 2^63 - 1, when
/// a dimension is negative, or when the type is `Opaque`.
std::optional<uint64_t> getTensorBytes(llvm::ArrayRef<int64_t> shape,
                                       ElementType type);

/// "8x?x4xbf16", as in the IR: a negative dimension is "?", a scalar is "f32".
std::string formatTensorType(llvm::ArrayRef<int64_t> shape, ElementType type);

/// `name` in quotes for a message: control characters escaped, and shortened
/// when it is very long (names come from files, and files may hold anything).
std::string quoteName(llvm::StringRef name);

//===----------------------------------------------------------------------===//
// Mapped files
//===----------------------------------------------------------------------===//

/// A regular file, mapped for reading.
class MappedFile {
public:
  static llvm::Expected<std::shared_ptr<const MappedFile>>
  open(llvm::StringRef path);

  llvm::StringRef getPath() const { return path; }
  llvm::ArrayRef<uint8_t> getBytes() const;

  /// Takes the pages around `bytes`, a part of this file, out of the resident
  /// memory of the process. They may be read again: they then come back from
  /// the file. Reaches 2 MB beyond `bytes` on both sides, since a page fault
  /// maps more than a page: what lies within 64 KB, or a whole large folio of
  /// the page cache (seen on Linux 6.18). Dropping only the pages of each
  /// expert would leave that behind for every one.
  void dropPages(llvm::ArrayRef<uint8_t> bytes) const;

private:
  MappedFile() = default;

  std::string path;
  llvm::sys::fs::mapped_file_region region; // Nothing when the file is empty.
};

/// A tensor in a mapped file, which stays mapped as long as the tensor lives.
struct MappedTensor : TensorView {
  /// The element type as the file spells it, "BF16" or "<f4".
  std::string storedType;
  std::shared_ptr<const MappedFile> file;
};

/// MappedFile::dropPages for the bytes of `tensor`.
void dropPages(const MappedTensor &tensor);

//===----------------------------------------------------------------------===//
// .npy
//===----------------------------------------------------------------------===//

/// Reads an array as numpy.save writes it (format 1.0 to 3.0, little-endian,
/// C order, a plain element type). Its name is the file's without ".npy".
llvm::Expected<MappedTensor> readNpy(llvm::StringRef path);

/// The type that writeNpy stores: f32 for bf16 and f8, which numpy does not
/// have, otherwise `type`.
ElementType getNpyStorageType(ElementType type);

/// Writes `tensor` as numpy.save does, in the type `getNpyStorageType` gives.
llvm::Error writeNpy(llvm::StringRef path, const TensorView &tensor);

//===----------------------------------------------------------------------===//
// .safetensors
//===----------------------------------------------------------------------===//

/// A mapped safetensors file: every rule of the format was checked, down to
/// that the tensors cover all bytes of the file once.
class SafetensorsFile {
public:
  static llvm::Expected<SafetensorsFile> open(llvm::StringRef path);

  llvm::StringRef getPath() const { return file->getPath(); }
  /// All tensors, in the order of their bytes.
  llvm::ArrayRef<MappedTensor> getTensors() const { return tensors; }
  /// The tensor of that name, or null.
  const MappedTensor *find(llvm::StringRef name) const;
  /// `__metadata__`; empty when the file has none.
  const llvm::StringMap<std::string> &getMetadata() const { return metadata; }

private:
  friend class SafetensorsReader;

  std::shared_ptr<const MappedFile> file;
  std::vector<MappedTensor> tensors;
  llvm::StringMap<size_t> positions;
  llvm::StringMap<std::string> metadata;
};

/// Writes the tensors, those with the widest elements first, so that all of
/// them are aligned. Fails on a name given twice, one that is not UTF-8, an
/// `Opaque` type, or a size that does not follow from the shape.
llvm::Error writeSafetensors(
    llvm::StringRef path, llvm::ArrayRef<TensorView> tensors,
    llvm::ArrayRef<std::pair<std::string, std::string>> metadata = {});

} // namespace mlir::moe

#endif // MOE_SUPPORT_TENSORFILE_H
