//===- Safetensors.cpp - Reading and writing .safetensors files -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The format: the length N of the header (8 bytes, little-endian), the header
// (N bytes of JSON that begin with '{' and may end in spaces), the data. The
// header maps a name to {"dtype": "F32", "shape": [2, 3], "data_offsets":
// [begin, end]}, relative to the data, and "__metadata__" to strings. The
// tensors cover the data once, without holes.
//
//===----------------------------------------------------------------------===//

#include "moe/Support/JsonMembers.h"
#include "moe/Support/OutputFile.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace mlir::moe;

static constexpr StringLiteral kMetadata = "__metadata__";
/// As the reference implementation.
static constexpr uint64_t kMaxHeaderSize = 100'000'000;
static constexpr size_t kMaxRank = 64;
/// Far above what 64 dimensions and two offsets take.
static constexpr size_t kMaxEntrySize = 1 << 16;

static constexpr StringLiteral kDamaged =
    "; the file is damaged or was not written whole: download or save it again";

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

namespace mlir::moe {
/// Fills a SafetensorsFile from the bytes of its mapped file. The errors lack
/// the name of the file.
class SafetensorsReader {
public:
  explicit SafetensorsReader(SafetensorsFile &result)
      : result(result), bytes(result.file->getBytes()) {}

  Error read();

private:
  Error splitHeader();
  Error readMetadata(StringRef text);
  Error readTensor(StringRef name, StringRef text);
  Error checkSize(const MappedTensor &tensor);
  Error placeTensors();

  SafetensorsFile &result;
  ArrayRef<uint8_t> bytes;
  StringRef header;
  ArrayRef<uint8_t> data;
};
} // namespace mlir::moe

Error SafetensorsReader::splitHeader() {
  if (toStringRef(bytes).starts_with("version https://git-lfs"))
    return createStringError(
        "is a Git LFS pointer, not the file it stands for: run `git lfs pull`");
  if (bytes.size() < 8)
    return createStringError("has " + Twine(bytes.size()) +
                             " bytes, but a safetensors file has at least 8" +
                             kDamaged);
  uint64_t size = support::endian::read64le(bytes.data());
  if (size > kMaxHeaderSize)
    return createStringError(
        "its first 8 bytes give a header of " + Twine(size) +
        " bytes, but the format allows at most " + Twine(kMaxHeaderSize) +
        "; this is no safetensors file, or it is damaged");
  if (size > bytes.size() - 8)
    return createStringError("its header has " + Twine(size) + " bytes, but " +
                             Twine(bytes.size() - 8) + " follow its length" +
                             kDamaged);
  header = toStringRef(bytes.slice(8, size));
  data = bytes.drop_front(8 + size);
  if (!header.starts_with("{"))
    return createStringError("its header does not begin with '{'; this is no "
                             "safetensors file, or it is damaged");
  return Error::success();
}

Error SafetensorsReader::readMetadata(StringRef text) {
  return forEachJsonMember(text, [&](StringRef name, StringRef value) -> Error {
    Expected<std::string> string = parseJsonString(value, quoteName(name));
    if (!string)
      return string.takeError();
    result.metadata[name] = std::move(*string);
    return Error::success();
  });
}

/// Reads a JSON array of integers from 0 to 2^63 - 1.
static Expected<SmallVector<int64_t, 4>> parseSizes(StringRef text) {
  Expected<json::Value> value = json::parse(text);
  if (!value)
    return value.takeError();
  json::Array *array = value->getAsArray();
  if (!array)
    return createStringError("should be an array of integers");
  SmallVector<int64_t, 4> sizes;
  for (const json::Value &element : *array) {
    std::optional<uint64_t> size = element.getAsUINT64();
    if (!size || *size > uint64_t(std::numeric_limits<int64_t>::max()))
      return createStringError("should hold integers from 0 to 2^63 - 1 only");
    sizes.push_back(*size);
  }
  return sizes;
}

Error SafetensorsReader::readTensor(StringRef name, StringRef text) {
  if (text.size() > kMaxEntrySize)
    return createStringError("its entry in the header has " +
                             Twine(text.size()) + " bytes, more than " +
                             Twine(kMaxEntrySize) + kDamaged);
  MappedTensor tensor;
  tensor.name = name.str();
  tensor.file = result.file;
  bool hasShape = false;
  SmallVector<int64_t, 4> offsets;
  auto readMember = [&](StringRef key, StringRef value) -> Error {
    if (key == "dtype")
      return parseJsonString(value, "its dtype").moveInto(tensor.storedType);
    if (key != "shape" && key != "data_offsets")
      return Error::success();
    Expected<SmallVector<int64_t, 4>> sizes = parseSizes(value);
    if (!sizes)
      return createStringError("its " + key + " " +
                               toString(sizes.takeError()));
    hasShape |= key == "shape";
    (key == "shape" ? tensor.shape : offsets) = std::move(*sizes);
    return Error::success();
  };
  if (Error error = forEachJsonMember(text, readMember))
    return error;
  if (tensor.storedType.empty() || !hasShape || offsets.size() != 2)
    return createStringError(
        Twine("its entry lacks a dtype, a shape, or data_offsets of two "
              "numbers") +
        kDamaged);
  if (tensor.shape.size() > kMaxRank)
    return createStringError("it has " + Twine(tensor.shape.size()) +
                             " dimensions, more than " + Twine(kMaxRank) +
                             kDamaged);
  uint64_t begin = offsets[0], end = offsets[1];
  if (begin > end || end > data.size())
    return createStringError("its data_offsets are [" + Twine(begin) + ", " +
                             Twine(end) + "], but the file has " +
                             Twine(data.size()) + " bytes of data" + kDamaged);
  tensor.data = data.data() + begin;
  tensor.byteSize = end - begin;
  tensor.type =
      parseSafetensorsName(tensor.storedType).value_or(ElementType::Opaque);
  if (Error error = checkSize(tensor))
    return error;
  result.tensors.push_back(std::move(tensor));
  return Error::success();
}

/// The bytes of a type that we do not know cannot be checked; whoever wants
/// the values will refuse it by its name.
Error SafetensorsReader::checkSize(const MappedTensor &tensor) {
  if (tensor.type == ElementType::Opaque)
    return Error::success();
  std::string type = formatTensorType(tensor.shape, tensor.type);
  std::optional<uint64_t> size = getTensorBytes(tensor.shape, tensor.type);
  if (!size)
    return createStringError("it is " + type + ", more than 2^63 bytes" +
                             kDamaged);
  if (*size != tensor.byteSize)
    return createStringError("it is " + type + ", " + Twine(*size) +
                             " bytes, but its data_offsets span " +
                             Twine(tensor.byteSize) + kDamaged);
  return Error::success();
}

/// Sorts the tensors by their bytes and checks that these cover the data.
Error SafetensorsReader::placeTensors() {
  llvm::sort(result.tensors, [](const MappedTensor &a, const MappedTensor &b) {
    return std::tie(a.data, a.byteSize, a.name) <
           std::tie(b.data, b.byteSize, b.name);
  });
  const uint8_t *expected = data.data();
  for (auto [position, tensor] : llvm::enumerate(result.tensors)) {
    if (tensor.data != expected)
      return createStringError(
          "tensor " + quoteName(tensor.name) + " begins at byte " +
          Twine(tensor.data - data.data()) + " of the data, but the one " +
          "before it ends at byte " + Twine(expected - data.data()) +
          (tensor.data < expected ? "; tensors must not overlap"
                                  : "; no bytes may lie between") +
          kDamaged);
    expected = tensor.data + tensor.byteSize;
    result.positions[tensor.name] = position;
  }
  if (expected != data.end())
    return createStringError(
        "the tensors end at byte " + Twine(expected - data.data()) +
        " of the data, but there are " + Twine(data.size()) + kDamaged);
  return Error::success();
}

Error SafetensorsReader::read() {
  if (Error error = splitHeader())
    return error;
  auto readMember = [&](StringRef name, StringRef value) -> Error {
    bool isMetadata = name == kMetadata;
    Error error = isMetadata ? readMetadata(value) : readTensor(name, value);
    if (!error)
      return error;
    return createStringError((isMetadata ? "" : "tensor ") + quoteName(name) +
                             ": " + toString(std::move(error)));
  };
  if (Error error = forEachJsonMember(header, readMember))
    return error;
  return placeTensors();
}

Expected<SafetensorsFile> SafetensorsFile::open(StringRef path) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  SafetensorsFile result;
  result.file = std::move(*file);
  if (Error error = SafetensorsReader(result).read())
    return createFileError(path, std::move(error));
  return result;
}

const MappedTensor *SafetensorsFile::find(StringRef name) const {
  auto it = positions.find(name);
  return it == positions.end() ? nullptr : &tensors[it->second];
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

static Error checkWritable(const TensorView &tensor, StringSet<> &names) {
  auto fail = [&](const Twine &reason) {
    return createStringError("tensor " + quoteName(tensor.name) + " " + reason);
  };
  if (!json::isUTF8(tensor.name) || tensor.name == kMetadata)
    return fail("has a name that the format does not allow; rename it");
  if (!names.insert(tensor.name).second)
    return fail("is given twice; rename one of them");
  if (getTensorBytes(tensor.shape, tensor.type) != tensor.byteSize)
    return fail("is " + formatTensorType(tensor.shape, tensor.type) +
                " and has " + Twine(tensor.byteSize) +
                " bytes; the type must be one we know, and the bytes must be "
                "those of the type");
  return Error::success();
}

/// The JSON of the header, for data in the order of `tensors`.
static std::string
makeHeader(ArrayRef<const TensorView *> tensors,
           ArrayRef<std::pair<std::string, std::string>> metadata) {
  std::string text;
  raw_string_ostream os(text);
  json::OStream json(os);
  uint64_t offset = 0;
  json.object([&] {
    if (!metadata.empty())
      json.attributeObject(kMetadata, [&] {
        for (const auto &[key, value] : metadata)
          json.attribute(key, value);
      });
    for (const TensorView *tensor : tensors)
      json.attributeObject(tensor->name, [&] {
        uint64_t end = offset + tensor->byteSize;
        json.attribute("dtype", getSafetensorsName(tensor->type));
        json.attribute("shape", json::Array(tensor->shape));
        json.attribute("data_offsets", json::Array{offset, end});
        offset = end;
      });
  });
  // Data that begins at a multiple of 64 is as aligned as anybody needs.
  text.append((64 - (8 + text.size()) % 64) % 64, ' ');
  return text;
}

static Error
checkMetadata(ArrayRef<std::pair<std::string, std::string>> metadata) {
  StringSet<> keys;
  for (const auto &[key, value] : metadata)
    if (!json::isUTF8(key) || !json::isUTF8(value) || !keys.insert(key).second)
      return createStringError("metadata " + quoteName(key) +
                               " is given twice or is not UTF-8; correct it");
  return Error::success();
}

Error mlir::moe::writeSafetensors(
    StringRef path, ArrayRef<TensorView> tensors,
    ArrayRef<std::pair<std::string, std::string>> metadata) {
  StringSet<> names;
  SmallVector<const TensorView *> ordered;
  for (const TensorView &tensor : tensors) {
    if (Error error = checkWritable(tensor, names))
      return createFileError(path, std::move(error));
    ordered.push_back(&tensor);
  }
  if (Error error = checkMetadata(metadata))
    return createFileError(path, std::move(error));
  llvm::sort(ordered, [](const TensorView *a, const TensorView *b) {
    uint64_t sizeA = getElementSize(a->type), sizeB = getElementSize(b->type);
    return sizeA != sizeB ? sizeA > sizeB : a < b; // As given among equals.
  });
  std::string header = makeHeader(ordered, metadata);
  if (header.size() > kMaxHeaderSize)
    return createFileError(
        path,
        createStringError("the header would have " + Twine(header.size()) +
                          " bytes, and the format allows at most " +
                          Twine(kMaxHeaderSize) + "; write several files"));
  return writeFileAtomically(path, [&](raw_ostream &os) -> Error {
    char length[8];
    support::endian::write64le(length, header.size());
    os.write(length, sizeof(length));
    os << header;
    for (const TensorView *tensor : ordered)
      os.write(reinterpret_cast<const char *>(tensor->data), tensor->byteSize);
    return Error::success();
  });
}
