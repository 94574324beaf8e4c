//===- PackedWeights.cpp - A run on packed weights --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Runner.h"
#include "moe/Run/PackedFile.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace mlir::moe;
using llvm::Error;
using llvm::Expected;

/// The number of the argument that is called so.
static Expected<size_t> findNamed(const EntrySignature &signature,
                                  StringRef name) {
  const EntryTensor *found =
      llvm::find_if(signature.arguments, [&](const EntryTensor &tensor) {
        return tensor.name == name;
      });
  if (found != signature.arguments.end())
    return found - signature.arguments.begin();
  return llvm::createStringError(
      "argument " + quoteName(name) + " of @" + signature.name +
      " on packed weights is none of it before they are packed; give its "
      "arguments a moe.name each");
}

//===----------------------------------------------------------------------===//
// Before anything runs
//===----------------------------------------------------------------------===//

Error Runner::checkPackingFlags() const {
  if (options.benchmark && !(packsWeights && hasUnpackedLayer))
    return llvm::createStringError(
        "--benchmark counts the work of the layer before its weights are "
        "packed; run it on the checkpoint and on a layer that is not packed");
  if (!packsWeights && !options.savedPacked.empty())
    return llvm::createStringError("--save-packed: the weights in " +
                                   sources.weights +
                                   " are packed already; copy that file");
  return Error::success();
}

Error Runner::planArguments(const EntrySignature &packer) {
  for (const EntryTensor &source : packer.arguments) {
    auto number = findNamed(loaded, source.name);
    if (!number)
      return number.takeError();
    packedSources.push_back(*number);
  }
  for (auto [i, argument] : llvm::enumerate(signature.arguments)) {
    const int32_t *result = llvm::find(packing->packedArguments, i);
    if (result != packing->packedArguments.end()) {
      origins.push_back(
          {true, size_t(result - packing->packedArguments.begin())});
      continue;
    }
    auto number = findNamed(loaded, argument.name);
    if (!number)
      return number.takeError();
    origins.push_back({false, *number});
  }
  return Error::success();
}

Error Runner::planPacking(const Compilation &compilation) {
  packing = compilation.getPacking();
  hasUnpackedLayer = compilation.hasUnpackedLayer();
  loaded = signature;
  std::optional<PackedFile> file;
  if (!sources.weights.empty()) {
    auto opened = PackedFile::open(sources.weights);
    if (!opened)
      return opened.takeError();
    file = std::move(*opened);
  }
  if (!packing && file)
    return llvm::createStringError(
        sources.weights +
        ": its weights are packed, and the layer takes them as checkpoints "
        "have them; add --pack-weights");
  if (!packing)
    return Error::success();
  packsWeights = !file;
  if (Error error = checkPackingFlags())
    return error;
  if (packsWeights) {
    loaded = compilation.getUnpackedSignature();
    return planArguments(compilation.getPackingSignature());
  }
  Stopwatch watch;
  for (int32_t number : packing->packedArguments)
    if (Error error = file->check(signature.arguments[number]))
      return error;
  summary.packing = Report::Packing();
  summary.packing->file = sources.weights;
  summary.packing->seconds = watch.getSeconds();
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

Expected<Shapes> Runner::inferArgumentShapes() {
  Shapes shapes;
  for (const BoundArgument &argument : bound)
    shapes.emplace_back(argument.getShape());
  if (!packs())
    return shapes;
  Shapes sourceShapes;
  for (size_t source : packedSources)
    sourceShapes.push_back(shapes[source]);
  auto made = makeResults(*compiled.packing, sourceShapes);
  if (!made)
    return made.takeError();
  packed = std::move(*made);

  Shapes layerShapes;
  for (const Origin &origin : origins)
    layerShapes.emplace_back(origin.isPacked
                                 ? ArrayRef(packed[origin.number].getShape())
                                 : ArrayRef(shapes[origin.number]));
  return layerShapes;
}

//===----------------------------------------------------------------------===//
// Packing
//===----------------------------------------------------------------------===//

Error Runner::packWeights() {
  if (!packs()) {
    for (const HostTensor &argument : arguments)
      layerArguments.push_back(&argument);
    return Error::success();
  }
  std::vector<const HostTensor *> unpacked;
  for (size_t source : packedSources)
    unpacked.push_back(&arguments[source]);
  Stopwatch watch;
  if (Error error = call(*compiled.packing, unpacked, packed))
    return error;
  summary.packing = Report::Packing();
  summary.packing->seconds = watch.getSeconds();
  for (const HostTensor *tensor : unpacked)
    summary.packing->readBytes += tensor->getByteSize();
  for (const HostTensor &tensor : packed)
    summary.packing->writtenBytes += tensor.getByteSize();
  for (const Origin &origin : origins)
    layerArguments.push_back(origin.isPacked ? &packed[origin.number]
                                             : &arguments[origin.number]);
  return Error::success();
}

/// Adds `tensor` as checkpoints have it: one tensor an expert where `param`
/// says so.
static void addParam(const HostTensor &tensor, StringRef param,
                     std::vector<TensorView> &views) {
  if (!param.contains(kExpertPlaceholder)) {
    views.push_back(tensor.getView(param));
    return;
  }
  auto [before, after] = param.split(kExpertPlaceholder);
  int64_t numExperts = tensor.getShape().front();
  for (int64_t expert = 0; expert < numExperts; ++expert) {
    TensorView view = tensor.getView((before + Twine(expert) + after).str());
    view.shape.erase(view.shape.begin());
    view.byteSize /= numExperts;
    view.data += expert * view.byteSize;
    views.push_back(std::move(view));
  }
}

Error Runner::savePacked() const {
  if (options.savedPacked.empty())
    return Error::success();
  std::vector<TensorView> tensors, others;
  for (auto [i, argument] : llvm::enumerate(signature.arguments)) {
    if (argument.param.empty())
      continue; // Not of a checkpoint.
    bool isPacked = llvm::is_contained(packing->packedArguments, i);
    addParam(*layerArguments[i], argument.param, isPacked ? tensors : others);
  }
  return writePackedFile(options.savedPacked, tensors, others);
}
