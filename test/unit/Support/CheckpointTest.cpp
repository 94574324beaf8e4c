//===- CheckpointTest.cpp - Folders, indices and shards ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Support/Checkpoint.h"
#include "TestFiles.h"

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

static constexpr StringLiteral kIndex = "model.safetensors.index.json";

/// Writes a file whose tensors have one byte each: the last of their name.
static void writeFile(const Folder &folder, StringRef file,
                      ArrayRef<StringRef> names) {
  std::vector<TensorView> views;
  for (StringRef name : names) {
    TensorView view;
    view.name = name.str();
    view.type = ElementType::U8;
    view.shape = {1};
    view.data = reinterpret_cast<const uint8_t *>(name.end() - 1);
    view.byteSize = 1;
    views.push_back(view);
  }
  expectSuccess(writeSafetensors(folder.getPath(file), views));
}

/// Two shards with an index: a.x and a.y in the first, b.z in the second.
static void writeSharded(const Folder &folder) {
  writeFile(folder, "m-1.safetensors", {"a.x", "a.y"});
  writeFile(folder, "m-2.safetensors", {"b.z"});
  folder.write(kIndex, R"({"metadata":{"total_size":3},"weight_map":{
      "b.z":"m-2.safetensors","a.x":"m-1.safetensors","a.y":"m-1.safetensors"}})");
}

static void expectValue(Checkpoint &checkpoint, StringRef name) {
  Expected<MappedTensor> tensor = checkpoint.lookup(name);
  if (!tensor)
    return expectSuccess(tensor.takeError());
  EXPECT_EQ(tensor->name, name);
  EXPECT_EQ(*tensor->data, uint8_t(name.back()));
}

//===----------------------------------------------------------------------===//
// Opening
//===----------------------------------------------------------------------===//

TEST(CheckpointTest, OpensAFileOrItsFolder) {
  Folder folder;
  writeFile(folder, "model.safetensors", {"b", "a"});
  for (std::string path :
       {folder.getPath(), folder.getPath("model.safetensors")}) {
    Checkpoint checkpoint = unwrap(Checkpoint::open(path));
    EXPECT_EQ(checkpoint.getPath(), folder.getPath("model.safetensors"));
    EXPECT_EQ(checkpoint.getNames(), (ArrayRef<std::string>{"a", "b"}));
    EXPECT_TRUE(checkpoint.contains("a"));
    EXPECT_FALSE(checkpoint.contains("c"));
    expectValue(checkpoint, "b");
    expectSuccess(checkpoint.checkShards());
  }
}

TEST(CheckpointTest, OpensShardsByTheIndex) {
  Folder folder;
  writeSharded(folder);
  for (std::string path : {folder.getPath(), folder.getPath(kIndex)}) {
    Checkpoint checkpoint = unwrap(Checkpoint::open(path));
    EXPECT_EQ(checkpoint.getNames(),
              (ArrayRef<std::string>{"a.x", "a.y", "b.z"}));
    for (StringRef name : {"a.x", "b.z", "a.y"})
      expectValue(checkpoint, name);
    expectSuccess(checkpoint.checkShards());
  }
}

TEST(CheckpointTest, OpensOnlyTheShardsItNeeds) {
  Folder folder;
  writeSharded(folder);
  ASSERT_FALSE(sys::fs::remove(folder.getPath("m-2.safetensors")));
  Checkpoint checkpoint = unwrap(Checkpoint::open(folder.getPath()));
  expectValue(checkpoint, "a.x");
  expectError(checkpoint.lookup("b.z"), {kIndex.data(), "needs its shard",
                                         "m-2.safetensors", "No such file"});
  expectError(checkpoint.checkShards(), {"m-2.safetensors"});
}

TEST(CheckpointTest, TheSingleFileComesFirst) {
  Folder folder;
  writeSharded(folder);
  writeFile(folder, "model.safetensors", {"c"});
  Checkpoint checkpoint = unwrap(Checkpoint::open(folder.getPath()));
  EXPECT_EQ(checkpoint.getNames(), ArrayRef<std::string>{"c"});
}

TEST(CheckpointTest, SaysWhatAFolderHolds) {
  Folder folder;
  expectError(
      Checkpoint::open(folder.getPath()),
      {"has no model.safetensors", kIndex.data(), "is this the folder"});
  folder.write("pytorch_model.bin", "");
  expectError(Checkpoint::open(folder.getPath()),
              {"pytorch_model.bin", "safe_serialization=True"});
  folder.write("consolidated.safetensors", "");
  expectError(Checkpoint::open(folder.getPath()),
              {"consolidated.safetensors", "name that file itself"});
  expectError(Checkpoint::open(folder.getPath("missing")),
              {"missing", "No such file"});
}

//===----------------------------------------------------------------------===//
// Lookup
//===----------------------------------------------------------------------===//

TEST(CheckpointTest, UnknownNamesGiveTheNearest) {
  Folder folder;
  writeFile(folder, "model.safetensors",
            {"model.layers.0.mlp.gate.weight", "model.layers.1.mlp.gate.weight",
             "model.layers.0.mlp.experts.0.up_proj.weight", "lm_head.weight"});
  Checkpoint checkpoint = unwrap(Checkpoint::open(folder.getPath()));
  Expected<MappedTensor> tensor =
      checkpoint.lookup("model.layers.0.mlp.gates.weight");
  ASSERT_FALSE(static_cast<bool>(tensor));
  std::string message = toString(tensor.takeError());
  StringRef text = message;
  EXPECT_TRUE(text.contains("model.safetensors")) << message;
  EXPECT_TRUE(text.contains("no tensor 'model.layers.0.mlp.gates.weight' among "
                            "4; the nearest names are "
                            "'model.layers.0.mlp.gate.weight', "
                            "'model.layers.1.mlp.gate.weight', "))
      << message;
  expectError(checkpoint.lookup(std::string(100'000, 'x')),
              {"(100000 bytes)", "among 4"});
}

TEST(CheckpointTest, IndexAndShardsMustAgree) {
  Folder folder;
  writeSharded(folder);
  writeFile(folder, "m-1.safetensors", {"a.x", "a.other"});
  Checkpoint checkpoint = unwrap(Checkpoint::open(folder.getPath()));
  expectError(checkpoint.lookup("a.x"),
              {kIndex.data(), "puts 2 tensors in", "m-1.safetensors",
               "has 1 of them and not 'a.y'", "download"});
}

TEST(CheckpointTest, TensorsThatTheIndexLeavesOutAreFoundByTheFullCheck) {
  Folder folder;
  writeSharded(folder);
  writeFile(folder, "m-2.safetensors", {"b.z", "b.extra"});
  Checkpoint checkpoint = unwrap(Checkpoint::open(folder.getPath()));
  expectValue(checkpoint, "b.z");
  expectError(checkpoint.lookup("b.extra"), {"no tensor 'b.extra'"});
  expectError(checkpoint.checkShards(),
              {"does not name 'b.extra'", "m-2.safetensors"});
}

//===----------------------------------------------------------------------===//
// Broken indices
//===----------------------------------------------------------------------===//

TEST(CheckpointTest, RefusesBrokenIndices) {
  Folder folder;
  auto open = [&](StringRef index) {
    return Checkpoint::open(folder.write("m.index.json", index));
  };
  expectError(open(""), {"m.index.json", "expected '{'"});
  expectError(open("{}"), {"no \"weight_map\""});
  expectError(open(R"({"weight_map":3})"), {"expected '{'"});
  expectError(open(R"({"weight_map":{"a":3}})"),
              {"the shard of 'a' should be a string"});
  expectError(open(R"({"weight_map":{"a":"x","a":"y"}})"),
              {"'a' is given twice"});
  for (StringRef shard : {"../x", "/etc/passwd", "..", "sub/x"})
    expectError(open(("{\"weight_map\":{\"a\":\"" + shard + "\"}}").str()),
                {"the shard of 'a'", "in the same folder"});
}
