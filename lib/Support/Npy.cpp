//===- Npy.cpp - Reading and writing .npy files ---------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The format: "\x93NUMPY", a version (two bytes), the length of the header (two
// bytes in version 1, four later), the header, which is a Python dictionary as
// text, and then the array.
//
//===----------------------------------------------------------------------===//

#include "moe/Support/OutputFile.h"
#include "moe/Support/TensorFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <algorithm>

using namespace llvm;
using namespace mlir::moe;

static constexpr StringLiteral kMagic = "\x93NUMPY";
static constexpr uint64_t kMaxHeaderSize = 1 << 20;
/// As numpy.
static constexpr size_t kMaxRank = 64;

//===----------------------------------------------------------------------===//
// The header's dictionary
//===----------------------------------------------------------------------===//

namespace {
struct NpyHeader {
  std::optional<std::string> descr;
  std::optional<bool> fortranOrder;
  std::optional<SmallVector<int64_t, 4>> shape;
};

/// Parses what numpy.save writes, which is all that numpy.load takes:
///   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class NpyHeaderParser {
public:
  explicit NpyHeaderParser(StringRef text) : text(text), rest(text) {}

  Expected<NpyHeader> parse();

private:
  Error parseEntry();
  Error parseDescr();
  Error parseFortranOrder();
  Error parseShape();
  Expected<std::string> parseString();
  Expected<int64_t> parseSize();
  Error makeError(const Twine &expected) const;

  /// Takes the next token when it is `token`.
  bool consume(StringRef token) {
    rest = rest.ltrim(" \t\n");
    return rest.consume_front(token);
  }

  StringRef text;
  StringRef rest;
  NpyHeader header;
};
} // namespace

Error NpyHeaderParser::makeError(const Twine &expected) const {
  return createStringError("the header is not what numpy.save writes: byte " +
                           Twine(text.size() - rest.size()) + " should be " +
                           expected + "; the file is damaged, save it again");
}

Expected<NpyHeader> NpyHeaderParser::parse() {
  if (!consume("{"))
    return makeError("'{'");
  while (!consume("}")) {
    if (Error error = parseEntry())
      return error;
    if (consume(","))
      continue;
    if (consume("}"))
      break;
    return makeError("',' or '}'");
  }
  if (!rest.trim(" \n").empty())
    return makeError("the end of the header");
  if (!header.descr || !header.fortranOrder || !header.shape)
    return createStringError(
        Twine("the header lacks ") +
        (!header.descr
             ? "'descr'"
             : (!header.fortranOrder ? "'fortran_order'" : "'shape'")) +
        "; the file is damaged, save it again");
  return std::move(header);
}

Error NpyHeaderParser::parseEntry() {
  Expected<std::string> key = parseString();
  if (!key)
    return key.takeError();
  if (!consume(":"))
    return makeError("':'");
  if (*key == "descr" && !header.descr)
    return parseDescr();
  if (*key == "fortran_order" && !header.fortranOrder)
    return parseFortranOrder();
  if (*key == "shape" && !header.shape)
    return parseShape();
  return createStringError(
      "the header has a second or unknown entry " + quoteName(*key) +
      "; it should have 'descr', 'fortran_order' and 'shape' once each");
}

Error NpyHeaderParser::parseDescr() {
  if (consume("["))
    return createStringError(
        "holds records of several fields; save one field as an array of its "
        "own, numpy.save(path, array['field'])");
  Expected<std::string> value = parseString();
  if (!value)
    return value.takeError();
  header.descr = std::move(*value);
  return Error::success();
}

Error NpyHeaderParser::parseFortranOrder() {
  if (consume("True"))
    header.fortranOrder = true;
  else if (consume("False"))
    header.fortranOrder = false;
  else
    return makeError("True or False");
  return Error::success();
}

Error NpyHeaderParser::parseShape() {
  if (!consume("("))
    return makeError("'('");
  header.shape.emplace();
  while (!consume(")")) {
    Expected<int64_t> size = parseSize();
    if (!size)
      return size.takeError();
    if (header.shape->size() == kMaxRank)
      return createStringError("the array has more than " + Twine(kMaxRank) +
                               " dimensions; the file is damaged, save it "
                               "again");
    header.shape->push_back(*size);
    if (consume(","))
      continue;
    if (consume(")"))
      break;
    return makeError("',' or ')'");
  }
  return Error::success();
}

Expected<std::string> NpyHeaderParser::parseString() {
  consume(""); // Skips space.
  if (!rest.starts_with("'") && !rest.starts_with("\""))
    return makeError("a quote");
  size_t end = rest.find(rest.front(), 1);
  if (end == StringRef::npos)
    return makeError("a string that ends");
  std::string value = rest.slice(1, end).str();
  rest = rest.drop_front(end + 1);
  return value;
}

Expected<int64_t> NpyHeaderParser::parseSize() {
  consume("");
  StringRef digits = rest.take_while(isDigit);
  int64_t value;
  if (digits.getAsInteger(10, value))
    return makeError("a dimension, from 0 to 2^63 - 1");
  rest = rest.drop_front(digits.size());
  rest.consume_front("L"); // As Python 2 wrote it.
  return value;
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

static Error makeSizeError(uint64_t have, const Twine &need) {
  return createStringError("has " + Twine(have) + " bytes, but " + need +
                           "; the file was cut or damaged, save it again");
}

/// Splits the bytes of a file into the text of the header and the array.
static Expected<std::pair<StringRef, ArrayRef<uint8_t>>>
splitHeader(ArrayRef<uint8_t> bytes) {
  StringRef text = toStringRef(bytes);
  if (text.starts_with("PK"))
    return createStringError(
        "is a .npz archive; save the array alone with numpy.save");
  if (!text.starts_with(kMagic))
    return createStringError("is not a .npy file: it does not begin with "
                             "\"\\x93NUMPY\"; write it with numpy.save");
  if (bytes.size() < 12)
    return makeSizeError(bytes.size(), "a .npy file has at least 12");
  unsigned major = bytes[6], minor = bytes[7];
  if (major < 1 || major > 3 || minor != 0)
    return createStringError("is of .npy version " + Twine(major) + "." +
                             Twine(minor) +
                             ", and we read 1.0, 2.0 and 3.0; write it with "
                             "numpy.save");
  uint64_t start = major == 1 ? 10 : 12;
  uint64_t size = major == 1 ? support::endian::read16le(&bytes[8])
                             : support::endian::read32le(&bytes[8]);
  if (size > kMaxHeaderSize)
    return createStringError("the header has " + Twine(size) +
                             " bytes, and that of an array has at most " +
                             Twine(kMaxHeaderSize) +
                             "; the file is damaged, save it again");
  if (size > bytes.size() - start)
    return makeSizeError(bytes.size(),
                         "its header ends at byte " + Twine(start + size));
  return std::make_pair(text.substr(start, size),
                        bytes.drop_front(start + size));
}

static Expected<ElementType> parseType(StringRef descr) {
  if (std::optional<ElementType> type = parseNumpyDescr(descr))
    return *type;
  std::string what = "the element type is " + quoteName(descr);
  if (descr.starts_with(">"))
    return createStringError(
        what + ", which is big-endian; save "
               "array.astype(array.dtype.newbyteorder('<')) instead");
  if (descr.ends_with("V2"))
    return createStringError(
        what + ", two bytes that numpy has no name for (bf16?); save "
               "array.astype(numpy.float32), or write a .safetensors file");
  if (descr.contains('O'))
    return createStringError(what + ", Python objects; save an array of "
                                    "numbers");
  return createStringError(what + ", which is not supported; convert the array "
                                  "first, with array.astype(numpy.float32) for "
                                  "instance");
}

static Expected<MappedTensor> parseNpy(std::shared_ptr<const MappedFile> file) {
  auto split = splitHeader(file->getBytes());
  if (!split)
    return split.takeError();
  Expected<NpyHeader> header = NpyHeaderParser(split->first).parse();
  if (!header)
    return header.takeError();
  Expected<ElementType> type = parseType(*header->descr);
  if (!type)
    return type.takeError();
  if (*header->fortranOrder)
    return createStringError(
        "is in Fortran order; save numpy.ascontiguousarray(array) instead");

  MappedTensor tensor;
  tensor.name = sys::path::stem(file->getPath()).str();
  tensor.type = *type;
  tensor.storedType = *header->descr;
  tensor.shape = *header->shape;
  tensor.data = split->second.data();
  tensor.byteSize = split->second.size();
  std::optional<uint64_t> bytes = getTensorBytes(tensor.shape, *type);
  std::string typeText = formatTensorType(tensor.shape, *type);
  if (!bytes)
    return createStringError("the array is " + typeText +
                             ", more than 2^63 bytes; the file is damaged, "
                             "save it again");
  if (*bytes != tensor.byteSize)
    return createStringError(
        "the array is " + typeText + ", " + Twine(*bytes) + " bytes, but " +
        Twine(tensor.byteSize) +
        " follow the header; the file was cut or damaged, or holds more than "
        "one array: save it again");
  tensor.file = std::move(file);
  return tensor;
}

Expected<MappedTensor> mlir::moe::readNpy(StringRef path) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  Expected<MappedTensor> tensor = parseNpy(*file);
  if (!tensor)
    return createFileError(path, tensor.takeError());
  return tensor;
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

ElementType mlir::moe::getNpyStorageType(ElementType type) {
  bool lacking = isFloat(type) && getNumpyDescr(type).empty();
  return lacking ? ElementType::F32 : type;
}

/// Magic, version, length and dictionary, padded so that the array is aligned
/// to 64 bytes, as numpy does.
static std::string makeHeader(ArrayRef<int64_t> shape, ElementType type) {
  std::string sizes;
  for (int64_t size : shape)
    sizes += std::to_string(size) + (shape.size() == 1 ? "," : ", ");
  StringRef tuple = StringRef(sizes);
  if (shape.size() > 1)
    tuple.consume_back(", ");
  std::string text = ("{'descr': '" + getNumpyDescr(type) +
                      "', 'fortran_order': False, 'shape': (" + tuple + "), }")
                         .str();
  constexpr size_t prefix = 10;
  text.append(63 - (prefix + text.size()) % 64, ' ');
  text += '\n';
  char length[2];
  support::endian::write16le(length, static_cast<uint16_t>(text.size()));
  return (kMagic + StringRef("\x01\x00", 2) + StringRef(length, 2) + text)
      .str();
}

/// Writes the elements of `tensor` as `type`, a part at a time.
static Error writeElements(raw_ostream &os, const TensorView &tensor,
                           ElementType type) {
  constexpr uint64_t partSize = 1 << 16;
  if (type == tensor.type) {
    os.write(reinterpret_cast<const char *>(tensor.data), tensor.byteSize);
    return Error::success();
  }
  uint64_t width = getElementSize(tensor.type);
  uint64_t count = tensor.byteSize / width;
  std::vector<char> part(partSize * getElementSize(type));
  for (uint64_t done = 0; done < count; done += partSize) {
    uint64_t n = std::min(partSize, count - done);
    if (Error error = convertElements(tensor.type, tensor.data + done * width,
                                      type, part.data(), n, done))
      return error;
    os.write(part.data(), n * getElementSize(type));
  }
  return Error::success();
}

Error mlir::moe::writeNpy(StringRef path, const TensorView &tensor) {
  ElementType type = getNpyStorageType(tensor.type);
  if (getTensorBytes(tensor.shape, tensor.type) != tensor.byteSize ||
      tensor.shape.size() > kMaxRank)
    return createFileError(
        path, createStringError(
                  "cannot hold " + quoteName(tensor.name) + ", which is " +
                  formatTensorType(tensor.shape, tensor.type) + " and has " +
                  Twine(tensor.byteSize) +
                  " bytes; the type must be one that "
                  "numpy has or that f32 holds, the rank at most " +
                  Twine(kMaxRank) + ", and the bytes those of the type"));
  return writeFileAtomically(path, [&](raw_ostream &os) -> Error {
    os << makeHeader(tensor.shape, type);
    return writeElements(os, tensor, type);
  });
}
