//===- PackedFile.cpp - Packed weights in a file ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/PackedFile.h"

#include "moe/Run/NamedValues.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CRC.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Parallel.h"

using namespace llvm;
using namespace mlir;
using namespace mlir::moe;

static constexpr StringLiteral kLayoutKey("moe.layout");
static constexpr StringLiteral kVersionKey("moe.layout_version");
static constexpr StringLiteral kChecksumsKey("moe.crc32.");

/// The CRC-32 of each slab of `tensor`: "9ae0daaf 00000000 …". By slabs, since
/// these are what is replaced, and what threads can work on at once.
static SmallVector<std::string> computeChecksums(const TensorView &tensor) {
  int64_t numExperts = tensor.shape.empty() ? 0 : tensor.shape.front();
  SmallVector<std::string> checksums(numExperts);
  parallelFor(0, numExperts, [&](size_t expert) {
    uint64_t slabBytes = tensor.byteSize / numExperts;
    ArrayRef<uint8_t> slab =
        tensor.getBytes().slice(expert * slabBytes, slabBytes);
    checksums[expert] = formatv("{0,0+8:x-}", crc32(slab));
  });
  return checksums;
}

Expected<std::optional<PackedFile>> PackedFile::open(StringRef path) {
  if (!path.ends_with(".safetensors"))
    return std::nullopt;
  Expected<SafetensorsFile> opened = SafetensorsFile::open(path);
  if (!opened)
    return opened.takeError();
  const StringMap<std::string> &metadata = opened->getMetadata();
  auto layout = metadata.find(kLayoutKey);
  if (layout == metadata.end())
    return std::nullopt;
  std::string version = metadata.lookup(kVersionKey);
  if (layout->second == kPackedLayout && version == kPackedLayoutVersion)
    return PackedFile(std::move(*opened));
  return createStringError(
      path + ": its weights are packed as " + quoteName(layout->second) +
      ", version " + quoteName(version) + "; this program reads '" +
      kPackedLayout + "', version '" + kPackedLayoutVersion +
      "': pack them again, with --save-packed");
}

/// The names of all tensors of `file`.
static std::vector<std::string> getTensorNames(const SafetensorsFile &file) {
  std::vector<std::string> names;
  for (const MappedTensor &tensor : file.getTensors())
    names.push_back(tensor.name);
  return names;
}

Error PackedFile::check(const EntryTensor &argument) const {
  auto fail = [&](const Twine &what) {
    return createStringError(file.getPath() + ": " + what);
  };
  const MappedTensor *tensor = file.find(argument.param);
  if (!tensor)
    return fail("there is no packed tensor " + quoteName(argument.param) +
                " for argument " + quoteName(argument.name) +
                "; the file is another layer's: it has " +
                listNames(getTensorNames(file)));
  std::string what = "the packed tensor " + quoteName(argument.param);
  bool fits = tensor->type == argument.elementType &&
              tensor->shape.size() == argument.shape.size();
  for (auto [has, wants] : zip(tensor->shape, argument.shape))
    fits &= ShapedType::isDynamic(wants) || has == wants;
  if (!fits)
    return fail(what + " is " + formatTensorType(tensor->shape, tensor->type) +
                ", but argument " + quoteName(argument.name) + " is " +
                formatTensorType(argument.shape, argument.elementType) +
                "; pack the weights of this layer, with --save-packed");

  auto recorded =
      file.getMetadata().find((kChecksumsKey + argument.param).str());
  if (recorded == file.getMetadata().end())
    return fail(what + " has no checksums (metadata '" + kChecksumsKey +
                argument.param + "')");
  SmallVector<StringRef> expected;
  StringRef(recorded->second).split(expected, ' ', -1, /*KeepEmpty=*/false);
  SmallVector<std::string> computed = computeChecksums(*tensor);
  if (expected.size() != computed.size())
    return fail(what + " has " + Twine(expected.size()) + " checksums for " +
                Twine(computed.size()) + " experts");
  for (auto [expert, pair] : enumerate(zip(expected, computed)))
    if (std::get<0>(pair) != std::get<1>(pair))
      return fail(what + " is damaged: the CRC-32 of expert " + Twine(expert) +
                  " is " + std::get<1>(pair) + ", and was " +
                  quoteName(std::get<0>(pair)) +
                  " when it was written; pack the weights again, with "
                  "--save-packed");
  return Error::success();
}

Error mlir::moe::writePackedFile(StringRef path, ArrayRef<TensorView> packed,
                                 ArrayRef<TensorView> others) {
  std::vector<std::pair<std::string, std::string>> metadata = {
      {kLayoutKey.str(), kPackedLayout.str()},
      {kVersionKey.str(), kPackedLayoutVersion.str()}};
  for (const TensorView &tensor : packed)
    metadata.push_back({(kChecksumsKey + tensor.name).str(),
                        join(computeChecksums(tensor), " ")});
  std::vector<TensorView> tensors(packed);
  append_range(tensors, others);
  return writeSafetensors(path, tensors, metadata);
}
