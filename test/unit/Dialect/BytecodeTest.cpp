//===- BytecodeTest.cpp - Files of other releases and broken files --------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A stand-in for the dialect of another release writes files; the dialect of
// this one reads them.
//
//===----------------------------------------------------------------------===//

#include "DialectTest.h"
#include "mlir/Bytecode/BytecodeImplementation.h"
#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "llvm/Support/MemoryBufferRef.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// What the other release writes: its version, and the words of an attribute.
struct Encoding {
  SmallVector<uint64_t> version = {0, 1};
  SmallVector<uint64_t> attribute = {0, 0};
};

struct OtherAttr : Attribute::AttrBase<OtherAttr, Attribute, AttributeStorage> {
  using Base::Base;
  static constexpr StringLiteral name = "moe.other";
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(OtherAttr)
};

struct OtherBytecode : BytecodeDialectInterface {
  OtherBytecode(Dialect *dialect, const Encoding &encoding)
      : BytecodeDialectInterface(dialect), encoding(encoding) {}
  void writeVersion(DialectBytecodeWriter &writer) const override {
    for (uint64_t word : encoding.version)
      writer.writeVarInt(word);
  }
  LogicalResult writeAttribute(Attribute,
                               DialectBytecodeWriter &writer) const override {
    for (uint64_t word : encoding.attribute)
      writer.writeVarInt(word);
    return success();
  }
  const Encoding &encoding;
};

struct OtherDialect : Dialect {
  OtherDialect(MLIRContext *context, const Encoding &encoding)
      : Dialect("moe", context, TypeID::get<OtherDialect>()) {
    addAttributes<OtherAttr>();
    addInterface(std::make_unique<OtherBytecode>(this, encoding));
  }
  void printAttribute(Attribute, DialectAsmPrinter &) const override {}
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(OtherDialect)
};

/// A module with one attribute of the dialect, as the other release writes it.
std::string write(const Encoding &encoding) {
  MLIRContext context;
  context.getOrLoadDialect("moe", TypeID::get<OtherDialect>(), [&] {
    return std::make_unique<OtherDialect>(&context, encoding);
  });
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  (*module)->setAttr("test.attribute", OtherAttr::get(&context));
  std::string bytes;
  llvm::raw_string_ostream os(bytes);
  EXPECT_TRUE(succeeded(writeBytecodeToFile(*module, os)));
  return bytes;
}

class BytecodeTest : public DialectTest {
protected:
  /// The attribute that this release reads from `bytes`, or null.
  Attribute read(StringRef bytes) {
    Block block;
    if (failed(readBytecodeFile(llvm::MemoryBufferRef(bytes, "test"), &block,
                                ParserConfig(&context))) ||
        block.empty())
      return Attribute();
    return block.front().getAttr("test.attribute");
  }
};

TEST_F(BytecodeTest, OwnVersion) {
  EXPECT_EQ(read(write(Encoding())),
            Attribute(ScoreAttr::get(&context, Score::Softmax)));
  EXPECT_TRUE(errors.empty()) << errors;
}

TEST_F(BytecodeTest, NewerVersion) {
  for (auto [version, text] :
       {std::make_pair(SmallVector<uint64_t>{0, 3}, "0.3"),
        std::make_pair(SmallVector<uint64_t>{1, 0}, "1.0")}) {
    errors.clear();
    Encoding encoding;
    encoding.version = version;
    EXPECT_FALSE(read(write(encoding)));
    EXPECT_NE(errors.find(std::string("moe: bytecode of version ") + text +
                          " is newer than this reader (0.2); use a newer "
                          "release"),
              std::string::npos)
        << errors;
  }
}

TEST_F(BytecodeTest, UnknownAttribute) {
  Encoding encoding;
  encoding.attribute = {99, 0};
  EXPECT_FALSE(read(write(encoding)));
  EXPECT_NE(errors.find("moe: unknown attribute code 99"), std::string::npos)
      << errors;
}

TEST_F(BytecodeTest, UnknownCase) {
  Encoding encoding;
  encoding.attribute = {0, 4};
  EXPECT_FALSE(read(write(encoding)));
  EXPECT_NE(errors.find("moe: unknown code 4 for score"), std::string::npos)
      << errors;
}

/// A code that fits into 32 bits only after truncation is none.
TEST_F(BytecodeTest, HugeCase) {
  Encoding encoding;
  encoding.attribute = {0, (uint64_t(1) << 32) + 1};
  EXPECT_FALSE(read(write(encoding)));
}

/// A flag, which is 1 for products of bf16, became a number of kernels. AMX's
/// tile with that flag was AMX.
TEST_F(BytecodeTest, KernelsBeforeTheyHadNames) {
  auto readKernel = [&](SmallVector<uint64_t> numbers) {
    Encoding encoding;
    encoding.attribute = std::move(numbers);
    auto config = dyn_cast_or_null<CPUMatmulAttr>(read(write(encoding)));
    return config ? std::optional(config.getKernel()) : std::nullopt;
  };
  EXPECT_EQ(readKernel({6, 4, 6, 128, 48, 2048, 16, 0}), CPUKernel::Fma);
  EXPECT_EQ(readKernel({6, 4, 6, 128, 48, 2048, 16, 1}), CPUKernel::Bf16Dot);
  EXPECT_EQ(readKernel({6, 16, 16, 64, 64, 2048, 16, 1}), CPUKernel::Amx);
  EXPECT_EQ(readKernel({6, 16, 16, 64, 64, 2048, 16, 2}), CPUKernel::Amx);
  EXPECT_TRUE(errors.empty()) << errors;
  EXPECT_EQ(readKernel({6, 16, 16, 64, 64, 2048, 16, 3}), std::nullopt);
  EXPECT_NE(errors.find("unknown code 3 for the kernel of a CPU"),
            std::string::npos)
      << errors;
}

TEST_F(BytecodeTest, GroupsOutOfRange) {
  Encoding encoding;
  encoding.attribute = {4, /*count=*/2, /*keep=*/3, 0, 0};
  EXPECT_FALSE(read(write(encoding)));
  EXPECT_NE(errors.find("keep must be between 1 and count = 2, got 3"),
            std::string::npos)
      << errors;
  errors.clear();
  encoding.attribute = {4, /*count=*/uint64_t(1) << 63, /*keep=*/1, 0, 0};
  EXPECT_FALSE(read(write(encoding)));
  EXPECT_NE(errors.find("count must be at least 1"), std::string::npos)
      << errors;
}

TEST_F(BytecodeTest, AttributeThatEndsTooSoon) {
  Encoding encoding;
  encoding.attribute = {4, 2};
  EXPECT_FALSE(read(write(encoding)));
  EXPECT_FALSE(errors.empty());
}

} // namespace
