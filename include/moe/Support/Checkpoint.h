//===- Checkpoint.h - The tensors of a model on disk -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_SUPPORT_CHECKPOINT_H
#define MOE_SUPPORT_CHECKPOINT_H

#include "moe/Support/TensorFile.h"

namespace mlir::moe {

/// The tensors of a checkpoint by name, whether they lie in one file or in many
/// shards. A shard is mapped and checked when the first of its tensors is
/// looked up, so a layer of a large model needs only its own shards.
///
/// Not safe for use by several threads at once; the tensors it returns are.
class Checkpoint {
public:
  /// Opens `path`, which is
  ///  - a folder with `model.safetensors`, or else with
  ///    `model.safetensors.index.json` and the shards that it names;
  ///  - a `*.safetensors` file;
  ///  - a `*.safetensors.index.json` file, with its shards in the same folder.
  static llvm::Expected<Checkpoint> open(llvm::StringRef path);

  /// The file that was opened: the index, or the only safetensors file.
  llvm::StringRef getPath() const { return path; }

  /// The names of all tensors, sorted. Of a sharded checkpoint: those in the
  /// index, whatever else the shards hold.
  llvm::ArrayRef<std::string> getNames() const { return names; }
  bool contains(llvm::StringRef name) const { return shardOf.contains(name); }

  /// The tensor `name`. The error for an unknown name gives the nearest ones;
  /// a shard without a tensor that the index promises is an error too. The
  /// type of the tensor may be `Opaque`.
  llvm::Expected<MappedTensor> lookup(llvm::StringRef name);

  /// Opens all shards and checks that the index and the shards name the same
  /// tensors, in both directions.
  llvm::Error checkShards();

private:
  struct Shard {
    std::string path;
    size_t numIndexed = 0;               // Tensors that the index puts here.
    std::optional<SafetensorsFile> file; // Opened at the first lookup.
  };

  Checkpoint() = default;
  static llvm::Expected<Checkpoint> openFile(llvm::StringRef path);
  static llvm::Expected<Checkpoint> openIndex(llvm::StringRef path);
  static llvm::Expected<Checkpoint> openFolder(llvm::StringRef path);

  llvm::Error readIndex(llvm::StringRef text);
  void sortNames();
  llvm::Expected<const SafetensorsFile *> openShard(size_t index);
  llvm::Error checkHoldsIndexed(const SafetensorsFile &file,
                                size_t index) const;
  llvm::Error makeUnknownNameError(llvm::StringRef name) const;

  std::string path;
  std::vector<std::string> names;
  std::vector<Shard> shards;
  llvm::StringMap<size_t> shardOf; // Tensor name to its place in `shards`.
};

} // namespace mlir::moe

#endif // MOE_SUPPORT_CHECKPOINT_H
