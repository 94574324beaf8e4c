//===- QuantizedTensor.cpp - Codes and scales of checkpoints ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which tensors make a quantized one, and whether they fit together. Their
// values are in Dequantize.cpp.
//
//===----------------------------------------------------------------------===//

#include "moe/Support/QuantizedTensor.h"
#include "Dequantize.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/MathExtras.h"

using namespace llvm;
using namespace mlir::moe;

/// The size of a block of fp8 in models that are published.
static constexpr int64_t kFp8Block = 128;

static bool isFp8(ElementType type) {
  return type == ElementType::F8E4M3FN || type == ElementType::F8E5M2;
}

/// "4x64x32".
static std::string formatSizes(ArrayRef<int64_t> shape) {
  std::string text;
  for (auto [i, size] : enumerate(shape))
    text += (i ? "x" : "") + std::to_string(size);
  return text;
}

static std::string describeStored(const MappedTensor &tensor) {
  std::string type = formatTensorType(tensor.shape, tensor.type);
  if (tensor.type == ElementType::Opaque)
    type += " (" + tensor.storedType + ")";
  return quoteName(tensor.name) + " in " + quoteName(tensor.file->getPath()) +
         " is " + type;
}

/// The tensor that `codes` needs beside it.
static Expected<MappedTensor> lookupScales(Checkpoint &checkpoint,
                                           const MappedTensor &codes,
                                           StringRef name,
                                           const Twine &otherwise) {
  if (checkpoint.contains(name))
    return checkpoint.lookup(name);
  return createStringError(
      describeStored(codes) + ", but its scales are missing: " +
      toString(checkpoint.lookup(name).takeError()) + "; " + otherwise);
}

Expected<bool> QuantizedTensor::isNeeded(Checkpoint &checkpoint, StringRef name,
                                         ElementType type) {
  if (!isFloat(type) || isFp8(type))
    return false;
  if (!checkpoint.contains(name))
    return checkpoint.contains((name + kMxfp4BlocksSuffix).str());
  Expected<MappedTensor> tensor = checkpoint.lookup(name);
  if (!tensor)
    return tensor.takeError();
  return isFp8(tensor->type);
}

Expected<QuantizedTensor> QuantizedTensor::open(Checkpoint &checkpoint,
                                                StringRef name) {
  return checkpoint.contains(name) ? openFp8(checkpoint, name)
                                   : openMxfp4(checkpoint, name);
}

//===----------------------------------------------------------------------===//
// fp8
//===----------------------------------------------------------------------===//

/// How many of `size` values share one of `count` scales, or nothing when no
/// rule makes that many scales.
static std::optional<int64_t> findBlockSize(int64_t size, int64_t count) {
  if (count == static_cast<int64_t>(divideCeil(size, kFp8Block)))
    return kFp8Block;
  if (count > 0 && size > 0 && size % count == 0)
    return size / count;
  return std::nullopt;
}

/// Checks that `scales` are of a type that we can multiply by.
static Error checkScaleType(const MappedTensor &scales,
                            ArrayRef<ElementType> types) {
  if (is_contained(types, scales.type))
    return Error::success();
  std::string names;
  for (ElementType type : types)
    names += (names.empty() ? "" : " or ") + getName(type).str();
  return createStringError(describeStored(scales) + ", but scales must be " +
                           names + "; store them in such a type");
}

static Error makeGridError(const MappedTensor &codes,
                           const MappedTensor &scales) {
  SmallVector<int64_t, 4> wanted = codes.shape;
  for (int64_t &size : MutableArrayRef(wanted).take_back(2))
    size = divideCeil(size, kFp8Block);
  return createStringError(
      describeStored(scales) + ", but " + describeStored(codes) +
      ", which takes " + formatSizes(wanted) +
      " scales, one for each block of 128x128; codes and scales are of "
      "different checkpoints: download them again together");
}

Expected<QuantizedTensor> QuantizedTensor::openFp8(Checkpoint &checkpoint,
                                                   StringRef name) {
  QuantizedTensor result;
  result.name = name.str();
  if (Error error = checkpoint.lookup(name).moveInto(result.codes))
    return std::move(error);
  const MappedTensor &codes = result.codes;
  if (Error error =
          lookupScales(
              checkpoint, codes, (name + kFp8ScalesSuffix).str(),
              "download it again, or store it in bf16 if its values need none")
              .moveInto(result.scales))
    return std::move(error);
  const MappedTensor &scales = result.scales;
  if (codes.shape.size() < 2)
    return createStringError(describeStored(codes) +
                             ", but scales of blocks need 2 dimensions or "
                             "more; store it in bf16");
  if (Error error = checkScaleType(scales, {ElementType::F32, ElementType::BF16,
                                            ElementType::F16, ElementType::U8}))
    return std::move(error);
  auto leading = [](const MappedTensor &tensor) {
    return ArrayRef<int64_t>(tensor.shape).drop_back(2);
  };
  if (scales.shape.size() != codes.shape.size() ||
      leading(scales) != leading(codes))
    return makeGridError(codes, scales);
  size_t rank = codes.shape.size();
  std::optional<int64_t> rows =
      findBlockSize(codes.shape[rank - 2], scales.shape[rank - 2]);
  std::optional<int64_t> columns =
      findBlockSize(codes.shape[rank - 1], scales.shape[rank - 1]);
  if (!rows || !columns)
    return makeGridError(codes, scales);
  result.blockRows = *rows;
  result.blockColumns = *columns;
  result.shape = codes.shape;
  return result;
}

//===----------------------------------------------------------------------===//
// mxfp4
//===----------------------------------------------------------------------===//

Expected<QuantizedTensor> QuantizedTensor::openMxfp4(Checkpoint &checkpoint,
                                                     StringRef name) {
  QuantizedTensor result;
  result.name = name.str();
  result.isMxfp4 = true;
  if (Error error = checkpoint.lookup((name + kMxfp4BlocksSuffix).str())
                        .moveInto(result.codes))
    return std::move(error);
  const MappedTensor &codes = result.codes;
  if (codes.type != ElementType::U8 || codes.shape.size() != 4 ||
      codes.shape[3] != kMxfp4BlockBytes)
    return createStringError(
        describeStored(codes) +
        ", but mxfp4 is ExNxGx16xui8: experts, outputs, groups of 32 inputs, "
        "and 16 bytes for these; store it so, or in bf16 as " +
        quoteName(name));
  if (Error error =
          lookupScales(checkpoint, codes, (name + kMxfp4ScalesSuffix).str(),
                       "the checkpoint is not complete: download it again")
              .moveInto(result.scales))
    return std::move(error);
  const MappedTensor &scales = result.scales;
  if (Error error = checkScaleType(scales, ElementType::U8))
    return std::move(error);
  ArrayRef<int64_t> grid = ArrayRef<int64_t>(codes.shape).drop_back();
  if (ArrayRef<int64_t>(scales.shape) != grid)
    return createStringError(
        describeStored(scales) + ", but " + describeStored(codes) +
        ", which takes " + formatSizes(grid) +
        " scales, one for each 16 bytes; codes and scales are of different "
        "checkpoints: download them again together");
  std::optional<int64_t> inputs = checkedMul(grid[2], kMxfp4BlockValues);
  if (!inputs)
    return createStringError(describeStored(codes) +
                             ", which makes more than 2^63 inputs; the file is "
                             "damaged: download it again");
  result.shape = {grid[0], *inputs, grid[1]};
  return result;
}

//===----------------------------------------------------------------------===//
// Both
//===----------------------------------------------------------------------===//

std::string QuantizedTensor::describeLayout() const {
  if (isMxfp4)
    return "mxfp4";
  return getName(codes.type).str() + " in blocks of " +
         std::to_string(blockRows) + "x" + std::to_string(blockColumns);
}

std::string QuantizedTensor::describe() const {
  return quoteName(name) + " in " + quoteName(getPath()) +
         " is, dequantized from " + describeLayout() + ", " +
         formatSizes(shape);
}

Error QuantizedTensor::copyTo(ElementType type,
                              MutableArrayRef<uint8_t> destination) const {
  std::optional<uint64_t> bytes = getTensorBytes(shape, type);
  if (!bytes || *bytes != destination.size())
    return createStringError(describe() + "; as " + getName(type) +
                             " it does not have " + Twine(destination.size()) +
                             " bytes");
  if (destination.empty())
    return Error::success();
  return isMxfp4 ? copyMxfp4(type, destination.data())
                 : copyFp8(type, destination.data());
}

/// Calls `copy` with the numbers of the first and the one after the last of
/// `count` slices of `codes`, some megabytes at a time, and drops their pages.
static Error forEachChunk(const MappedTensor &codes, int64_t count,
                          function_ref<Error(int64_t, int64_t)> copy) {
  constexpr int64_t chunk = 4 << 20;
  int64_t bytes = codes.byteSize / count;
  int64_t step = std::max<int64_t>(1, chunk / bytes);
  for (int64_t first = 0; first < count; first += step) {
    int64_t last = std::min(count, first + step);
    if (Error error = copy(first, last))
      return error;
    codes.file->dropPages(
        codes.getBytes().slice(first * bytes, (last - first) * bytes));
  }
  return Error::success();
}

/// Row by row, all matrices one after the other: the scales of a row are those
/// of its block.
Error QuantizedTensor::copyFp8(ElementType type, uint8_t *destination) const {
  size_t rank = shape.size();
  int64_t rows = shape[rank - 2], columns = shape[rank - 1];
  int64_t gridRows = scales.shape[rank - 2],
          gridColumns = scales.shape[rank - 1];
  int64_t allRows = codes.byteSize / columns;
  int64_t rowBytes = columns * getElementSize(type);
  uint64_t scaleBytes = gridColumns * getElementSize(scales.type);
  std::vector<float> factors(gridColumns);
  int64_t held = -1; // The row of `scales` in `factors`.
  auto copy = [&](int64_t first, int64_t last) -> Error {
    for (int64_t row = first; row < last; ++row) {
      int64_t gridRow = row / rows * gridRows + row % rows / blockRows;
      if (gridRow != held)
        if (Error error = decodeScales(
                scales.type, scales.data + gridRow * scaleBytes, factors))
          return error;
      held = gridRow;
      if (Error error = dequantizeFp8Row(
              codes.type, codes.getBytes().slice(row * columns, columns),
              factors, blockColumns, type, destination + row * rowBytes))
        return error;
    }
    return Error::success();
  };
  if (Error error = forEachChunk(codes, allRows, copy))
    return error;
  dropPages(scales);
  return Error::success();
}

/// One expert after the other, some rows at a time.
Error QuantizedTensor::copyMxfp4(ElementType type, uint8_t *destination) const {
  int64_t outputs = codes.shape[1], groups = codes.shape[2];
  uint64_t expertBytes =
      outputs * groups * kMxfp4BlockValues * getElementSize(type);
  Expected<Mxfp4Decoder> decoder = Mxfp4Decoder::create(type);
  if (!decoder)
    return decoder.takeError();
  auto copy = [&](int64_t first, int64_t last) -> Error {
    while (first < last) {
      // Tiles of rows do not reach from one expert to the next.
      int64_t expert = first / outputs, row = first % outputs;
      int64_t n = std::min(last - first, outputs - row);
      decoder->decode(codes.data + first * groups * kMxfp4BlockBytes,
                      scales.data + first * groups, groups, row, n, outputs,
                      destination + expert * expertBytes);
      first += n;
    }
    return Error::success();
  };
  if (Error error = forEachChunk(codes, shape[0] * outputs, copy))
    return error;
  dropPages(scales);
  return Error::success();
}
