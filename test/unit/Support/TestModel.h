//===- TestModel.h - Checkpoints of unit tests ------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_SUPPORT_TESTMODEL_H
#define MOE_TEST_UNIT_SUPPORT_TESTMODEL_H

#include "TestFiles.h"
#include "moe/Support/BoundTensor.h"
#include "llvm/Support/Process.h"

namespace mlir::moe::test {

/// A checkpoint of one file; keeps the values that it is written from.
class Model {
public:
  template <typename T>
  void add(llvm::StringRef name, ElementType type,
           llvm::ArrayRef<int64_t> shape, const std::vector<T> &values) {
    bytes.push_back(std::make_unique<std::string>(toBytes(values)));
    TensorView view;
    view.name = name.str();
    view.type = type;
    view.shape.assign(shape.begin(), shape.end());
    view.data = reinterpret_cast<const uint8_t *>(bytes.back()->data());
    view.byteSize = bytes.back()->size();
    views.push_back(view);
  }

  Checkpoint open() {
    std::string path = folder.getPath("model.safetensors");
    expectSuccess(writeSafetensors(path, views));
    return unwrap(Checkpoint::open(path));
  }

private:
  Folder folder;
  std::vector<std::unique_ptr<std::string>> bytes;
  std::vector<TensorView> views;
};

/// What `bound` copies, as an array of T.
template <typename T>
std::vector<T> copyValues(const BoundTensor &bound) {
  std::vector<T> values(bound.getByteSize() / sizeof(T));
  expectSuccess(bound.copyTo(
      {reinterpret_cast<uint8_t *>(values.data()), bound.getByteSize()}));
  return values;
}

/// A tensor of the header of a file that `writeSparse` makes.
struct SparseTensor {
  std::string name;
  llvm::StringRef type; // As safetensors spells it.
  std::vector<int64_t> shape;
  uint64_t bytes;
};

/// A file with these tensors, all zeros, that takes no space on disk.
inline std::string writeSparse(const Folder &folder,
                               llvm::ArrayRef<SparseTensor> tensors) {
  std::string header = "{";
  uint64_t offset = 0;
  for (const SparseTensor &tensor : tensors) {
    header += (offset ? ",\"" : "\"") + tensor.name + "\":{\"dtype\":\"" +
              tensor.type.str() + "\",\"shape\":[";
    for (auto [i, size] : llvm::enumerate(tensor.shape))
      header += (i ? "," : "") + std::to_string(size);
    header += "],\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(offset + tensor.bytes) + "]}";
    offset += tensor.bytes;
  }
  header += "}";
  std::string path = folder.write("model.safetensors", makeSafetensors(header));
  int fd;
  EXPECT_FALSE(llvm::sys::fs::openFileForWrite(
      path, fd, llvm::sys::fs::CD_OpenExisting, llvm::sys::fs::OF_Append));
  EXPECT_FALSE(
      llvm::sys::fs::resize_file_sparse(fd, 8 + header.size() + offset));
  llvm::sys::Process::SafelyCloseFileDescriptor(fd);
  return path;
}

} // namespace mlir::moe::test

#endif // MOE_TEST_UNIT_SUPPORT_TESTMODEL_H
