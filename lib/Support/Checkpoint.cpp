//===- Checkpoint.cpp - The tensors of a model on disk ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/Checkpoint.h"
#include "moe/Support/JsonMembers.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace mlir::moe;

static constexpr StringLiteral kSingleFile = "model.safetensors";
static constexpr StringLiteral kIndexFile = "model.safetensors.index.json";
/// That of a model of hundreds of billions of parameters has some 10 MB.
static constexpr size_t kMaxIndexSize = 100'000'000;

//===----------------------------------------------------------------------===//
// Opening
//===----------------------------------------------------------------------===//

Expected<Checkpoint> Checkpoint::open(StringRef path) {
  if (sys::fs::is_directory(path))
    return openFolder(path);
  if (path.ends_with(".json"))
    return openIndex(path);
  return openFile(path);
}

static std::string joinPath(StringRef folder, StringRef name) {
  SmallString<128> path(folder);
  sys::path::append(path, name);
  return std::string(path);
}

/// Which file the user may have meant by a folder without a model.
static std::string describeOtherFiles(StringRef folder) {
  std::error_code code;
  std::string pickle;
  for (sys::fs::directory_iterator it(folder, code), end; it != end && !code;
       it.increment(code)) {
    StringRef file = it->path();
    if (file.ends_with(".safetensors"))
      return "; to take " + quoteName(file) + ", name that file itself";
    if (file.ends_with(".bin") || file.ends_with(".pt"))
      pickle = file.str();
  }
  if (!pickle.empty())
    return "; there is " + quoteName(pickle) +
           ", which must be saved as safetensors first "
           "(model.save_pretrained(folder, safe_serialization=True))";
  return "; is this the folder of a checkpoint?";
}

/// As transformers, takes the single file where both are there.
Expected<Checkpoint> Checkpoint::openFolder(StringRef path) {
  std::string single = joinPath(path, kSingleFile);
  if (sys::fs::exists(single))
    return openFile(single);
  std::string index = joinPath(path, kIndexFile);
  if (sys::fs::exists(index))
    return openIndex(index);
  return createFileError(path, createStringError("has no " + kSingleFile +
                                                 " and no " + kIndexFile +
                                                 describeOtherFiles(path)));
}

Expected<Checkpoint> Checkpoint::openFile(StringRef path) {
  Expected<SafetensorsFile> file = SafetensorsFile::open(path);
  if (!file)
    return file.takeError();
  Checkpoint checkpoint;
  checkpoint.path = path.str();
  for (const MappedTensor &tensor : file->getTensors())
    checkpoint.shardOf[tensor.name] = 0;
  size_t numTensors = file->getTensors().size();
  checkpoint.shards.push_back({path.str(), numTensors, std::move(*file)});
  checkpoint.sortNames();
  return checkpoint;
}

Expected<Checkpoint> Checkpoint::openIndex(StringRef path) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  StringRef text = toStringRef((*file)->getBytes());
  if (text.size() > kMaxIndexSize)
    return createFileError(
        path, createStringError("has " + Twine(text.size()) +
                                " bytes, and an index has at most " +
                                Twine(kMaxIndexSize) +
                                "; name a *.safetensors file or its index"));
  Checkpoint checkpoint;
  checkpoint.path = path.str();
  if (Error error = checkpoint.readIndex(text))
    return createFileError(path, std::move(error));
  checkpoint.sortNames();
  return checkpoint;
}

/// Reads {"metadata": ..., "weight_map": {"tensor": "shard.safetensors"}}.
Error Checkpoint::readIndex(StringRef text) {
  StringRef folder = sys::path::parent_path(path);
  StringMap<size_t> known; // File name to its place in `shards`.
  auto readEntry = [&](StringRef name, StringRef value) -> Error {
    Expected<std::string> file =
        parseJsonString(value, "the shard of " + quoteName(name));
    if (!file)
      return file.takeError();
    if (sys::path::filename(*file) != *file || *file == "." || *file == "..")
      return createStringError("the shard of " + quoteName(name) + " is " +
                               quoteName(*file) +
                               ", but must be a file in the same folder");
    auto [it, isNew] = known.try_emplace(*file, shards.size());
    if (isNew)
      shards.push_back({joinPath(folder, *file), 0, std::nullopt});
    ++shards[it->second].numIndexed;
    shardOf[name] = it->second;
    return Error::success();
  };
  bool hasMap = false;
  auto readMember = [&](StringRef name, StringRef value) -> Error {
    if (name != "weight_map")
      return Error::success();
    hasMap = true;
    return forEachJsonMember(value, readEntry);
  };
  if (Error error = forEachJsonMember(text, readMember))
    return error;
  if (!hasMap)
    return createStringError("has no \"weight_map\", so it is not the index of "
                             "a checkpoint; name a *.safetensors file or its "
                             "index");
  return Error::success();
}

void Checkpoint::sortNames() {
  names.reserve(shardOf.size());
  for (StringRef name : shardOf.keys())
    names.push_back(name.str());
  llvm::sort(names);
}

//===----------------------------------------------------------------------===//
// Lookup
//===----------------------------------------------------------------------===//

/// The three names nearest to `name`, for a message.
static std::string describeNearest(ArrayRef<std::string> names,
                                   StringRef name) {
  constexpr size_t howMany = 3, longest = 512;
  if (name.size() > longest)
    return "";
  // As long as `name` is what replacing all of it costs: nothing is near then.
  unsigned worst = name.size();
  SmallVector<std::pair<unsigned, StringRef>, howMany + 1> nearest;
  for (const std::string &other : names) {
    unsigned distance =
        name.edit_distance(other, /*AllowReplacements=*/true, worst);
    if (distance > worst)
      continue;
    auto place = llvm::upper_bound(
        nearest, distance,
        [](unsigned value, const auto &entry) { return value < entry.first; });
    nearest.insert(place, {distance, other});
    if (nearest.size() > howMany) {
      nearest.pop_back();
      worst = nearest.back().first;
    }
  }
  if (nearest.empty())
    return "";
  std::string text = "; the nearest names are ";
  ListSeparator comma;
  for (const auto &[distance, other] : nearest)
    text += (StringRef(comma) + quoteName(other)).str();
  return text;
}

Error Checkpoint::makeUnknownNameError(StringRef name) const {
  return createFileError(path,
                         createStringError("has no tensor " + quoteName(name) +
                                           " among " + Twine(names.size()) +
                                           describeNearest(names, name)));
}

Error Checkpoint::checkHoldsIndexed(const SafetensorsFile &file,
                                    size_t index) const {
  size_t indexed = shards[index].numIndexed, held = 0;
  for (const MappedTensor &tensor : file.getTensors()) {
    auto it = shardOf.find(tensor.name);
    held += it != shardOf.end() && it->second == index;
  }
  if (indexed == held)
    return Error::success();
  for (const std::string &name : names)
    if (shardOf.find(name)->second == index && !file.find(name))
      return createFileError(
          path, createStringError(
                    "puts " + Twine(indexed) + " tensors in " +
                    quoteName(file.getPath()) + ", which has " + Twine(held) +
                    " of them and not " + quoteName(name) +
                    "; index and shards are of different checkpoints: "
                    "download them again together"));
  llvm_unreachable("the counts differ but no tensor is missing");
}

Expected<const SafetensorsFile *> Checkpoint::openShard(size_t index) {
  Shard &shard = shards[index];
  if (!shard.file) {
    Expected<SafetensorsFile> file = SafetensorsFile::open(shard.path);
    if (!file)
      return createFileError(
          path,
          createStringError("needs its shard " + toString(file.takeError())));
    if (Error error = checkHoldsIndexed(*file, index))
      return error;
    shard.file = std::move(*file);
  }
  return &*shard.file;
}

Expected<MappedTensor> Checkpoint::lookup(StringRef name) {
  auto it = shardOf.find(name);
  if (it == shardOf.end())
    return makeUnknownNameError(name);
  Expected<const SafetensorsFile *> file = openShard(it->second);
  if (!file)
    return file.takeError();
  return *(*file)->find(name);
}

Error Checkpoint::checkShards() {
  for (size_t index = 0; index < shards.size(); ++index) {
    Expected<const SafetensorsFile *> file = openShard(index);
    if (!file)
      return file.takeError();
    for (const MappedTensor &tensor : (*file)->getTensors()) {
      auto it = shardOf.find(tensor.name);
      if (it != shardOf.end() && it->second == index)
        continue;
      return createFileError(
          path, createStringError("does not name " + quoteName(tensor.name) +
                                  ", which is in its shard " +
                                  quoteName((*file)->getPath()) +
                                  "; index and shards are of different "
                                  "checkpoints: download them again together"));
    }
  }
  return Error::success();
}
