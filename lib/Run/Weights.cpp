//===- Weights.cpp - The tensors that moe.param names -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Weights.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace mlir::moe;

/// Whether `folder` holds .npy files and no checkpoint.
static bool isNpyFolder(StringRef folder) {
  bool hasNpy = false;
  std::error_code code;
  for (sys::fs::directory_iterator it(folder, code), end; it != end && !code;
       it.increment(code)) {
    StringRef name = sys::path::filename(it->path());
    if (name.starts_with("model.safetensors"))
      return false;
    hasNpy |= name.ends_with(".npy");
  }
  return hasNpy;
}

Expected<Weights> Weights::open(StringRef path) {
  Weights weights;
  if (sys::fs::is_directory(path) && isNpyFolder(path)) {
    weights.folder = path.str();
    return weights;
  }
  if (path.ends_with(".npy"))
    return createStringError(quoteName(path) +
                             " is one array; --weights takes the folder that "
                             "holds it, --input=NAME=FILE a single file");
  Expected<Checkpoint> checkpoint = Checkpoint::open(path);
  if (!checkpoint)
    return checkpoint.takeError();
  weights.checkpoint = std::move(*checkpoint);
  return weights;
}

Expected<BoundTensor> Weights::bind(const EntryTensor &argument,
                                    ArrayRef<int64_t> shape) {
  if (checkpoint)
    return BoundTensor::bind(*checkpoint, argument.param, shape,
                             argument.elementType);
  for (StringRef name : {argument.param, argument.name}) {
    SmallString<128> path(folder);
    sys::path::append(path, name + ".npy");
    if (!sys::fs::exists(path))
      continue;
    Expected<MappedTensor> tensor = readNpy(path);
    if (!tensor)
      return tensor.takeError();
    return BoundTensor::bind(std::move(*tensor), shape, argument.elementType);
  }
  return createStringError("the folder " + quoteName(folder) + " has neither " +
                           quoteName(argument.param + ".npy") + " nor " +
                           quoteName(argument.name + ".npy"));
}
