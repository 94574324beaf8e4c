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

/// The number of the tensor that is called so.
static size_t findNamed(llvm::ArrayRef<EntryTensor> tensors, StringRef name) {
  const EntryTensor *found = llvm::find_if(
      tensors, [&](const EntryTensor &tensor) { return tensor.name == name; });
  assert(found != tensors.end() && "both forms of a layer share the others");
  return found - tensors.begin();
}

//===----------------------------------------------------------------------===//
// Before anything runs
//===----------------------------------------------------------------------===//

Error Runner::checkPackingFlags() const {
  if (options.benchmark && !(packsWeights && hasUnpackedLayer))
    return llvm::createStringError(
        "--benchmark counts the work of the layer before its weights are "
        "packed; run it on the checkpoint and on a layer that is not packed");
  for (int32_t number : packing->packedArguments)
    if (signature.arguments[number].param.empty())
      return llvm::createStringError(
          "argument " + quoteName(signature.arguments[number].name) + " of @" +
          signature.name +
          " has no name that a file could give its packed weights; give it a "
          "moe.name");
  if (!packsWeights && !options.savedPacked.empty())
    return llvm::createStringError("--save-packed: the weights in " +
                                   sources.weights +
                                   " are packed already; copy that file");
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
    for (const EntryTensor &source :
         compilation.getPackingSignature().arguments)
      packedSources.push_back(findNamed(loaded.arguments, source.name));
    return Error::success();
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
  for (auto [i, argument] : llvm::enumerate(signature.arguments)) {
    const int32_t *result = llvm::find(packing->packedArguments, i);
    if (result == packing->packedArguments.end())
      layerShapes.push_back(shapes[findNamed(loaded.arguments, argument.name)]);
    else
      layerShapes.emplace_back(
          packed[result - packing->packedArguments.begin()].getShape());
  }
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
  for (auto [i, argument] : llvm::enumerate(signature.arguments)) {
    const int32_t *result = llvm::find(packing->packedArguments, i);
    bool isPacked = result != packing->packedArguments.end();
    layerArguments.push_back(
        isPacked ? &packed[result - packing->packedArguments.begin()]
                 : &arguments[findNamed(loaded.arguments, argument.name)]);
  }
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
