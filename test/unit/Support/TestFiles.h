//===- TestFiles.h - Files and errors in unit tests -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_SUPPORT_TESTFILES_H
#define MOE_TEST_UNIT_SUPPORT_TESTFILES_H

#include "moe/Support/TensorFile.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"
#include <fstream>

namespace mlir::moe::test {

/// A folder for the files of one test, removed with all in it at the end.
class Folder {
public:
  Folder() {
    if (llvm::sys::fs::createUniqueDirectory("moe-test", path))
      ADD_FAILURE() << "cannot make a temporary folder";
  }
  ~Folder() { (void)llvm::sys::fs::remove_directories(path); }

  std::string getPath() const { return std::string(path); }
  std::string getPath(llvm::StringRef name) const {
    llvm::SmallString<128> file(path);
    llvm::sys::path::append(file, name);
    return std::string(file);
  }
  /// Writes a file and returns its path. Always a new file: an old one may
  /// still be mapped, and some file systems are slow to cut and refill it.
  std::string write(llvm::StringRef name, llvm::StringRef bytes) const {
    std::string file = getPath(name);
    (void)llvm::sys::fs::remove(file);
    std::ofstream(file, std::ios::binary).write(bytes.data(), bytes.size());
    return file;
  }
  /// The names of all files, sorted.
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    std::error_code code;
    for (llvm::sys::fs::directory_iterator it(path, code), end;
         it != end && !code; it.increment(code))
      names.push_back(llvm::sys::path::filename(it->path()).str());
    std::sort(names.begin(), names.end());
    return names;
  }

private:
  llvm::SmallString<128> path;
};

inline std::string readBytes(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false);
  if (buffer)
    return (*buffer)->getBuffer().str();
  ADD_FAILURE() << "cannot read " << path;
  return "";
}

/// A safetensors file: the length of `header`, `header`, `data`.
inline std::string makeSafetensors(llvm::StringRef header,
                                   llvm::StringRef data = "") {
  char length[8];
  llvm::support::endian::write64le(length, header.size());
  return (llvm::StringRef(length, 8) + header + data).str();
}

/// The bytes of an array, for the data of a file.
template <typename T>
std::string toBytes(const std::vector<T> &values) {
  return std::string(reinterpret_cast<const char *>(values.data()),
                     values.size() * sizeof(T));
}

/// A view of `values`, which must outlive it.
template <typename T>
TensorView makeView(llvm::StringRef name, ElementType type,
                    llvm::ArrayRef<int64_t> shape,
                    const std::vector<T> &values) {
  TensorView view;
  view.name = name.str();
  view.type = type;
  view.shape.assign(shape.begin(), shape.end());
  view.data = reinterpret_cast<const uint8_t *>(values.data());
  view.byteSize = values.size() * sizeof(T);
  return view;
}

template <typename T>
std::vector<T> getValues(const TensorView &view) {
  std::vector<T> values(view.byteSize / sizeof(T));
  if (!values.empty())
    std::memcpy(values.data(), view.data, view.byteSize);
  return values;
}

/// Expects an error whose message holds all `parts`.
inline void expectError(llvm::Error error, llvm::ArrayRef<const char *> parts) {
  ASSERT_TRUE(static_cast<bool>(error)) << "expected an error";
  std::string message = toString(std::move(error));
  for (const char *part : parts)
    EXPECT_NE(message.find(part), std::string::npos)
        << "no \"" << part << "\" in: " << message;
}

template <typename T>
void expectError(llvm::Expected<T> value, llvm::ArrayRef<const char *> parts) {
  expectError(value.takeError(), parts);
}

inline void expectSuccess(llvm::Error error) {
  if (error)
    ADD_FAILURE() << toString(std::move(error));
}

/// The value, or a fatal failure of the process: tests that continue without
/// it would only crash later.
template <typename T>
T unwrap(llvm::Expected<T> value) {
  if (!value) {
    ADD_FAILURE() << toString(value.takeError());
    std::abort();
  }
  return std::move(*value);
}

/// A line of /proc/self/status in bytes, "VmHWM" or "RssFile"; 0 where the
/// system does not have it.
inline uint64_t getProcessStatus(llvm::StringRef field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (llvm::StringRef(line).starts_with(field.str() + ":"))
      return std::stoull(line.substr(field.size() + 1)) * 1024;
  return 0;
}

} // namespace mlir::moe::test

#endif // MOE_TEST_UNIT_SUPPORT_TESTFILES_H
