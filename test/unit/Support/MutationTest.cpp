//===- MutationTest.cpp - Damaged files -------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Thousands of damaged files into each reader. Whatever comes in, what comes
// out is an error that names the file, or tensors that lie within it. The seed
// is printed; MOE_TEST_SEED=<n> runs another, and a failure prints its round.
//
//===----------------------------------------------------------------------===//

#include "TestFiles.h"
#include "moe/Support/BoundTensor.h"
#include <cstdlib>
#include <random>

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

static constexpr int kRounds = 4000;

namespace {
/// Damages bytes in ways that files get damaged, or that an attacker would.
class Mutator {
public:
  explicit Mutator(uint64_t seed) : random(seed) {}

  /// One to four random changes.
  std::string mutate(std::string bytes) {
    for (uint64_t left = pick(4) + 1; left > 0; --left)
      mutateOnce(bytes);
    return bytes;
  }

  std::string makeRandomBytes() {
    std::string bytes(pick(300), '\0');
    for (char &byte : bytes)
      byte = static_cast<char>(random());
    return bytes;
  }

private:
  uint64_t pick(uint64_t count) { return random() % count; }

  void mutateOnce(std::string &bytes) {
    if (bytes.empty())
      bytes = "x";
    size_t at = pick(bytes.size());
    switch (pick(8)) {
    case 0:
      bytes[at] ^= char(1 << pick(8));
      break;
    case 1:
      bytes[at] = StringRef("\0\xff\x7f\x80{}[]\",:\\ 09-eE.", 19)[pick(19)];
      break;
    case 2:
      bytes.resize(at); // Cut.
      break;
    case 3:
      bytes.erase(at, pick(8) + 1);
      break;
    case 4:
      bytes.insert(at, bytes.substr(pick(bytes.size()), pick(40) + 1));
      break;
    case 5:
      overwriteInteger(bytes);
      break;
    default:
      replaceNumber(bytes, at);
    }
  }

  /// The first bytes of a format are a length: any number there.
  void overwriteInteger(std::string &bytes) {
    uint64_t value = random() >> pick(64);
    size_t at = pick(12);
    for (size_t i = 0; i < 8 && at + i < bytes.size(); ++i)
      bytes[at + i] = static_cast<char>(value >> (8 * i));
  }

  /// Another number for the next one in the text.
  void replaceNumber(std::string &bytes, size_t from) {
    static constexpr StringLiteral numbers[] = {"0",
                                                "1",
                                                "-1",
                                                "2",
                                                "3",
                                                "4",
                                                "255",
                                                "2147483648",
                                                "4294967296",
                                                "1e3",
                                                "1.5",
                                                "9223372036854775807",
                                                "1e400",
                                                "null",
                                                "9223372036854775808",
                                                "4611686018427387904",
                                                "18446744073709551615",
                                                "[]",
                                                "\"\"",
                                                "99999999999999999999999999"};
    size_t begin = bytes.find_first_of("0123456789", from);
    if (begin == std::string::npos)
      return;
    size_t end = bytes.find_first_not_of("0123456789", begin);
    size_t length = (end == std::string::npos ? bytes.size() : end) - begin;
    bytes.replace(begin, length, numbers[pick(std::size(numbers))].str());
  }

  std::mt19937_64 random;
};
} // namespace

static uint64_t getSeed() {
  const char *text = std::getenv("MOE_TEST_SEED");
  uint64_t seed = text ? std::strtoull(text, nullptr, 10) : 20261122;
  outs() << "MOE_TEST_SEED=" << seed << "\n";
  outs().flush();
  return seed;
}

/// Expects that `tensor` lies within its file and that its bytes can be read.
static void checkTensor(const MappedTensor &tensor) {
  ArrayRef<uint8_t> file = tensor.file->getBytes();
  ASSERT_GE(tensor.data, file.begin());
  ASSERT_LE(tensor.data, file.end());
  ASSERT_LE(tensor.byteSize, uint64_t(file.end() - tensor.data));
  if (tensor.type != ElementType::Opaque) {
    ASSERT_EQ(getTensorBytes(tensor.shape, tensor.type), tensor.byteSize);
  }
  uint64_t sum = 0;
  for (uint8_t byte : tensor.getBytes())
    sum += byte;
  ASSERT_LE(sum, 255 * tensor.byteSize);
}

static void checkMessage(Error error, StringRef file) {
  std::string message = toString(std::move(error));
  EXPECT_NE(message.find(file.str()), std::string::npos) << message;
  EXPECT_LT(message.size(), 4000u) << message.substr(0, 4000);
}

/// Calls `check` with the path of a damaged copy of `original`, again and
/// again; it returns whether the file was taken.
static void runRounds(const std::string &original, StringRef name,
                      function_ref<bool(const std::string &)> check) {
  uint64_t seed = getSeed();
  Folder folder;
  ASSERT_TRUE(check(folder.write(name, original)));
  Mutator mutator(seed);
  int taken = 0;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round) +
                 " of MOE_TEST_SEED=" + std::to_string(seed));
    std::string bytes =
        round % 20 == 19 ? mutator.makeRandomBytes() : mutator.mutate(original);
    taken += check(folder.write(name, bytes));
    if (testing::Test::HasFailure())
      return;
  }
  outs() << taken << " of " << kRounds << " damaged files were still valid\n";
  outs().flush();
  // Else the changes would be too coarse, or too fine, to test anything.
  EXPECT_GT(taken, 0);
  EXPECT_LT(taken, kRounds / 2);
}

static std::string makeModel() {
  return makeSafetensors(
      R"({"__metadata__":{"format":"pt"},)"
      R"("e.0.w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("e.1.w":{"dtype":"F32","shape":[2,3],"data_offsets":[24,48]},)"
      R"("e.2.w":{"dtype":"F32","shape":[2,3],"data_offsets":[48,72]},)"
      R"("ids":{"dtype":"I64","shape":[2],"data_offsets":[72,88]},)"
      R"("b":{"dtype":"BOOL","shape":[],"data_offsets":[88,89]}}   )",
      std::string(89, '\1'));
}

TEST(MutationTest, Safetensors) {
  runRounds(makeModel(), "x.safetensors", [](const std::string &path) {
    Expected<SafetensorsFile> file = SafetensorsFile::open(path);
    if (!file) {
      checkMessage(file.takeError(), "x.safetensors");
      return false;
    }
    uint64_t bytes = 0;
    for (const MappedTensor &tensor : file->getTensors()) {
      checkTensor(tensor);
      bytes += tensor.byteSize;
    }
    EXPECT_LE(bytes, unwrap(MappedFile::open(path))->getBytes().size());
    return true;
  });
}

TEST(MutationTest, Experts) {
  runRounds(makeModel(), "x.safetensors", [](const std::string &path) {
    Expected<Checkpoint> checkpoint = Checkpoint::open(path);
    if (!checkpoint) {
      checkMessage(checkpoint.takeError(), "x.safetensors");
      return false;
    }
    Expected<BoundTensor> bound = BoundTensor::bind(
        *checkpoint, "e.{expert}.w", {-1, -1, 3}, ElementType::BF16);
    if (!bound) {
      checkMessage(bound.takeError(), "e.");
      return false;
    }
    std::vector<uint8_t> place(bound->getByteSize());
    expectSuccess(bound->copyTo(place));
    return true;
  });
}

/// Two tensors in fp8 and one in mxfp4, with their scales.
static std::string makeQuantized() {
  return makeSafetensors(
      R"({"e.0":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[0,6]},)"
      R"("e.0_scale_inv":{"dtype":"BF16","shape":[1,1],"data_offsets":[6,8]},)"
      R"("e.1":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[8,14]},)"
      R"("e.1_scale_inv":{"dtype":"BF16","shape":[1,1],"data_offsets":[14,16]},)"
      R"("w_blocks":{"dtype":"U8","shape":[1,1,2,16],"data_offsets":[16,48]},)"
      R"("w_scales":{"dtype":"U8","shape":[1,1,2],"data_offsets":[48,50]}}   )",
      std::string(50, '\x42'));
}

TEST(MutationTest, Quantized) {
  runRounds(makeQuantized(), "x.safetensors", [](const std::string &path) {
    Expected<Checkpoint> checkpoint = Checkpoint::open(path);
    if (!checkpoint) {
      checkMessage(checkpoint.takeError(), "x.safetensors");
      return false;
    }
    bool allBound = true;
    for (StringRef name : {"e.{expert}", "w"}) {
      Expected<BoundTensor> bound =
          BoundTensor::bind(*checkpoint, name, {-1, -1, -1}, ElementType::BF16);
      if (!bound) {
        checkMessage(bound.takeError(), name.take_front(1));
        allBound = false;
        continue;
      }
      std::vector<uint8_t> place(bound->getByteSize());
      expectSuccess(bound->copyTo(place));
    }
    return allBound;
  });
}

TEST(MutationTest, Npy) {
  std::string original =
      std::string("\x93NUMPY\x01\x00\x46\x00", 10) +
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" +
      std::string(10, ' ') + "\n" + std::string(24, '\1');
  runRounds(original, "x.npy", [](const std::string &path) {
    Expected<MappedTensor> tensor = readNpy(path);
    if (!tensor) {
      checkMessage(tensor.takeError(), "x.npy");
      return false;
    }
    checkTensor(*tensor);
    return true;
  });
}

TEST(MutationTest, Index) {
  Folder shards;
  shards.write("m-1.safetensors", makeModel());
  std::string original =
      R"({"metadata":{"total_size":89},"weight_map":{"e.0.w":"m-1.safetensors",)"
      R"("e.1.w":"m-1.safetensors","e.2.w":"m-1.safetensors"}})";
  runRounds(original, "x.index.json", [&](const std::string &path) {
    std::string copy = shards.write("x.index.json", readBytes(path));
    Expected<Checkpoint> checkpoint = Checkpoint::open(copy);
    if (!checkpoint) {
      checkMessage(checkpoint.takeError(), "x.index.json");
      return false;
    }
    bool allFound = true;
    for (const std::string &name : checkpoint->getNames()) {
      Expected<MappedTensor> tensor = checkpoint->lookup(name);
      if (tensor) {
        checkTensor(*tensor);
        continue;
      }
      checkMessage(tensor.takeError(), "x.index.json");
      allFound = false;
    }
    return allFound;
  });
}
