//===- NpyTest.cpp - .npy files ---------------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestFiles.h"
#include "moe/Support/TensorFile.h"

using namespace llvm;
using namespace mlir::moe;
using namespace mlir::moe::test;

/// A file of version 1.0 with any header.
static std::string makeNpy(StringRef header, StringRef data = "") {
  char length[2];
  support::endian::write16le(length, header.size());
  return (StringRef("\x93NUMPY\x01\x00", 8) + StringRef(length, 2) + header +
          data)
      .str();
}

static std::string makeHeader(StringRef descr, StringRef shape,
                              StringRef fortranOrder = "False") {
  return ("{'descr': '" + descr + "', 'fortran_order': " + fortranOrder +
          ", 'shape': " + shape + ", }\n")
      .str();
}

/// Reads a file of these bytes.
static Expected<MappedTensor> readBytesAsNpy(StringRef bytes) {
  Folder folder;
  return readNpy(folder.write("x.npy", bytes));
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

// What numpy 2.4 wrote for numpy.arange(6, dtype='<f4').reshape(2, 3).
TEST(NpyTest, ReadsWhatNumpyWrites) {
  std::string header = makeHeader("<f4", "(2, 3)");
  header.insert(header.size() - 1, std::string(0x76 - header.size(), ' '));
  MappedTensor tensor = unwrap(
      readBytesAsNpy(makeNpy(header, toBytes<float>({0, 1, 2, 3, 4, 5}))));
  EXPECT_EQ(tensor.name, "x");
  EXPECT_EQ(tensor.type, ElementType::F32);
  EXPECT_EQ(tensor.storedType, "<f4");
  EXPECT_EQ(tensor.shape, (SmallVector<int64_t, 4>{2, 3}));
  EXPECT_EQ(getValues<float>(tensor), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_TRUE(tensor.isAligned());
}

TEST(NpyTest, ReadsVersions2And3) {
  std::string header = makeHeader("|i1", "(2,)");
  for (char version : {2, 3}) {
    char length[4];
    support::endian::write32le(length, header.size());
    std::string bytes = "\x93NUMPY";
    bytes += version;
    bytes += '\0';
    bytes += std::string(length, 4) + header + "\x05\x06";
    MappedTensor tensor = unwrap(readBytesAsNpy(bytes));
    EXPECT_EQ(getValues<int8_t>(tensor), (std::vector<int8_t>{5, 6}));
  }
}

TEST(NpyTest, ReadsScalarsAndEmptyArrays) {
  MappedTensor scalar =
      unwrap(readBytesAsNpy(makeNpy(makeHeader("|u1", "()"), "\x07")));
  EXPECT_TRUE(scalar.shape.empty());
  EXPECT_EQ(scalar.byteSize, 1u);
  MappedTensor empty =
      unwrap(readBytesAsNpy(makeNpy(makeHeader("<u2", "(0, 3)"))));
  EXPECT_EQ(empty.shape, (SmallVector<int64_t, 4>{0, 3}));
  EXPECT_EQ(empty.byteSize, 0u);
}

TEST(NpyTest, ReadsHeadersOfOldPythons) {
  MappedTensor tensor = unwrap(readBytesAsNpy(makeNpy(
      "{\"shape\": (2L,1L), \"fortran_order\": False, \"descr\": \"|b1\"}",
      StringRef("\1\0", 2))));
  EXPECT_EQ(tensor.type, ElementType::Bool);
  EXPECT_EQ(tensor.shape, (SmallVector<int64_t, 4>{2, 1}));
}

//===----------------------------------------------------------------------===//
// Refusing
//===----------------------------------------------------------------------===//

TEST(NpyTest, RefusesOtherFiles) {
  expectError(readBytesAsNpy(""), {"x.npy", "not a .npy file"});
  expectError(readBytesAsNpy("PK\3\4"), {".npz archive", "numpy.save"});
  expectError(readBytesAsNpy("\x93NUMPY\x01"), {"has 7 bytes", "at least 12"});
  expectError(
      readBytesAsNpy(StringRef("\x93NUMPY\x04\x00\x00\x00\x00\x00", 12)),
      {"version 4.0", "1.0, 2.0 and 3.0"});
}

TEST(NpyTest, RefusesLongAndCutHeaders) {
  expectError(
      readBytesAsNpy(StringRef("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12)),
      {"header has 4294967295 bytes"});
  expectError(readBytesAsNpy(StringRef("\x93NUMPY\x01\x00\x76\x00{'", 12)),
              {"has 12 bytes", "ends at byte 128"});
}

TEST(NpyTest, RefusesOtherElementTypes) {
  auto read = [](StringRef descr) {
    return readBytesAsNpy(makeNpy(makeHeader(descr, "(1,)"), "12345678"));
  };
  expectError(read(">f4"), {"'>f4'", "big-endian", "newbyteorder"});
  expectError(read("<V2"), {"'<V2'", "bf16", ".safetensors"});
  expectError(read("|O"), {"'|O'", "Python objects"});
  expectError(read("<c8"), {"'<c8'", "not supported", "astype"});
  expectError(readBytesAsNpy(
                  makeNpy("{'descr': [('a', '<f4')], 'fortran_order': False, "
                          "'shape': (1,), }")),
              {"records of several fields"});
}

TEST(NpyTest, RefusesFortranOrder) {
  expectError(readBytesAsNpy(makeNpy(makeHeader("<f4", "(2, 3)", "True"),
                                     std::string(24, '\0'))),
              {"Fortran order", "numpy.ascontiguousarray"});
}

TEST(NpyTest, RefusesBrokenHeaders) {
  auto read = [](StringRef header) { return readBytesAsNpy(makeNpy(header)); };
  expectError(read("{'descr': '<f4', 'shape': (2,), }"),
              {"lacks 'fortran_order'"});
  expectError(read("{'descr': '<f4', 'descr': '<f4'}"),
              {"second or unknown entry 'descr'"});
  expectError(read("{'weight': 3}"), {"unknown entry 'weight'"});
  expectError(read("('descr',)    "), {"byte 0 should be '{'"});
  expectError(read("{'descr: 3}   "), {"a string that ends"});
  expectError(read("{'shape': (2 3)}"), {"byte 13 should be ',' or ')'"});
  expectError(read("{'shape': (-1,)}"), {"a dimension"});
  expectError(read("{'shape': (18446744073709551616,)}"), {"a dimension"});
  expectError(read("{'fortran_order': 0}"), {"True or False"});
  expectError(read(makeHeader("<f4", "(0,)") + "x"), {"the end of the header"});
}

TEST(NpyTest, RefusesWrongSizes) {
  auto read = [](StringRef shape, StringRef data) {
    return readBytesAsNpy(makeNpy(makeHeader("<f4", shape), data));
  };
  expectError(read("(2, 3)", "only 20 bytes of it."),
              {"2x3xf32, 24 bytes", "20 follow"});
  expectError(read("(1,)", "more than that"), {"4 bytes", "14 follow"});
  expectError(read("(4611686018427387904, 4)", "1234"), {"more than 2^63"});
  std::string dims = "(";
  for (int i = 0; i < 65; ++i)
    dims += "1,";
  expectError(read(dims + ")", "1234"), {"more than 64 dimensions"});
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

TEST(NpyTest, WritesWhatItReads) {
  Folder folder;
  std::string path = folder.getPath("y.npy");
  std::vector<int64_t> values = {1, -2, 3, -4, 5, 6};
  for (SmallVector<int64_t, 4> shape :
       {SmallVector<int64_t, 4>{6}, {2, 3}, {1, 6, 1}}) {
    expectSuccess(
        writeNpy(path, makeView("y", ElementType::I64, shape, values)));
    MappedTensor tensor = unwrap(readNpy(path));
    EXPECT_EQ(tensor.shape, shape);
    EXPECT_EQ(tensor.type, ElementType::I64);
    EXPECT_EQ(getValues<int64_t>(tensor), values);
    EXPECT_EQ((tensor.data - tensor.file->getBytes().data()) % 64, 0);
  }
}

TEST(NpyTest, WritesTheHeaderOfNumpy) {
  Folder folder;
  std::string path = folder.getPath("y.npy");
  std::vector<float> values = {1, 2, 3};
  expectSuccess(writeNpy(path, makeView("y", ElementType::F32, {3}, values)));
  StringRef text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
  std::string bytes = readBytes(path);
  EXPECT_EQ(bytes.substr(0, 10 + text.size()),
            std::string("\x93NUMPY\x01\x00\x76\x00", 10) + text.str());
  EXPECT_EQ(bytes[127], '\n');
  EXPECT_EQ(bytes.size(), 128u + 12);
}

TEST(NpyTest, WritesBF16AsF32) {
  EXPECT_EQ(getNpyStorageType(ElementType::BF16), ElementType::F32);
  EXPECT_EQ(getNpyStorageType(ElementType::F8E5M2), ElementType::F32);
  EXPECT_EQ(getNpyStorageType(ElementType::F16), ElementType::F16);
  Folder folder;
  std::string path = folder.getPath("y.npy");
  // More than the part that is converted at a time.
  std::vector<uint16_t> values(100'000);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = f32ToBF16(float(i));
  expectSuccess(
      writeNpy(path, makeView("y", ElementType::BF16, {100'000}, values)));
  MappedTensor tensor = unwrap(readNpy(path));
  EXPECT_EQ(tensor.type, ElementType::F32);
  std::vector<float> written = getValues<float>(tensor);
  ASSERT_EQ(written.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(written[i], bf16ToF32(values[i])) << i;
}

TEST(NpyTest, RefusesToWriteWrongViews) {
  Folder folder;
  std::vector<float> values(3);
  expectError(writeNpy(folder.getPath("y.npy"),
                       makeView("y", ElementType::F32, {4}, values)),
              {"y.npy", "4xf32", "12 bytes"});
  expectError(writeNpy(folder.getPath("y.npy"),
                       makeView("y", ElementType::Opaque, {3}, values)),
              {"opaque"});
  EXPECT_TRUE(folder.list().empty());
}
