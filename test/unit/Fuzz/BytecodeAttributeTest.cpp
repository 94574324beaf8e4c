//===- BytecodeAttributeTest.cpp - Random codes into our reader -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the dialect decodes itself, attributes and its version, from numbers
// that nobody wrote. Upstream's reader would crash on most damaged files before
// it asks us (see mutateBytecode), so this asks the dialect directly.
//
//===----------------------------------------------------------------------===//

#include "FuzzHarness.h"
#include "mlir/Bytecode/BytecodeImplementation.h"
#include "mlir/IR/Builders.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include <deque>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::test;

namespace {

/// What stands in a file: numbers, and references to other attributes.
struct Encoded {
  std::deque<uint64_t> numbers;
  std::deque<Attribute> attributes;
};

/// Reads from an Encoded; whatever our dialect has no use for is an error.
class Reader : public DialectBytecodeReader {
public:
  Reader(MLIRContext *context, Encoded encoded)
      : context(context), encoded(std::move(encoded)) {}

  InFlightDiagnostic emitError(const Twine &message) const override {
    return mlir::emitError(UnknownLoc::get(context), message);
  }
  MLIRContext *getContext() const override { return context; }
  uint64_t getBytecodeVersion() const override { return 6; }
  FailureOr<const DialectVersion *>
  getDialectVersion(StringRef) const override {
    return failure();
  }

  LogicalResult readVarInt(uint64_t &result) override {
    if (encoded.numbers.empty())
      return emitError("the file ends");
    result = encoded.numbers.front();
    encoded.numbers.pop_front();
    return success();
  }
  LogicalResult readOptionalAttribute(Attribute &result) override {
    if (encoded.attributes.empty())
      return emitError("the file ends");
    result = encoded.attributes.front();
    encoded.attributes.pop_front();
    return success();
  }
  LogicalResult readAttribute(Attribute &result) override {
    if (failed(readOptionalAttribute(result)))
      return failure();
    return result ? success() : emitError("no attribute");
  }
  LogicalResult readSignedVarInt(int64_t &) override { return unexpected(); }
  LogicalResult readType(Type &) override { return unexpected(); }
  LogicalResult readString(StringRef &) override { return unexpected(); }
  LogicalResult readBlob(ArrayRef<char> &) override { return unexpected(); }
  LogicalResult readBool(bool &) override { return unexpected(); }
  FailureOr<APInt> readAPIntWithKnownWidth(unsigned) override {
    return unexpected();
  }
  FailureOr<APFloat>
  readAPFloatWithKnownSemantics(const llvm::fltSemantics &) override {
    return unexpected();
  }

private:
  MLIRContext *context;
  Encoded encoded;

  LogicalResult unexpected() { return emitError("unexpected read"); }
  FailureOr<AsmDialectResourceHandle> readResourceHandle() override {
    return unexpected();
  }
};

/// Writes into an Encoded; counts what our dialect should not write.
class Writer : public DialectBytecodeWriter {
public:
  Encoded encoded;
  int numUnexpected = 0;

  void writeVarInt(uint64_t value) override {
    encoded.numbers.push_back(value);
  }
  void writeAttribute(Attribute attr) override {
    encoded.attributes.push_back(attr);
  }
  void writeOptionalAttribute(Attribute attr) override {
    encoded.attributes.push_back(attr);
  }
  void writeType(Type) override { ++numUnexpected; }
  void writeResourceHandle(const AsmDialectResourceHandle &) override {
    ++numUnexpected;
  }
  void writeSignedVarInt(int64_t) override { ++numUnexpected; }
  void writeAPIntWithKnownWidth(const APInt &) override { ++numUnexpected; }
  void writeAPFloatWithKnownSemantics(const APFloat &) override {
    ++numUnexpected;
  }
  void writeOwnedString(StringRef) override { ++numUnexpected; }
  void writeOwnedBlob(ArrayRef<char>) override { ++numUnexpected; }
  void writeOwnedBool(bool) override { ++numUnexpected; }
  int64_t getBytecodeVersion() const override { return 6; }
  FailureOr<const DialectVersion *>
  getDialectVersion(StringRef) const override {
    return failure();
  }
};

} // namespace

static Encoded makeRandom(Random &random, MLIRContext *context) {
  Builder builder(context);
  Encoded encoded;
  for (uint64_t left = random.pick(7); left > 0; --left)
    encoded.numbers.push_back(random.oneIn(4) ? random.pick(UINT64_MAX)
                                              : random.pick(8));
  for (uint64_t left = random.pick(3); left > 0; --left)
    encoded.attributes.push_back(random.choose<Attribute>(
        {Attribute(), builder.getF32FloatAttr(0.5f),
         builder.getF32FloatAttr(-1.0f), builder.getF64FloatAttr(0.5),
         builder.getF32FloatAttr(std::numeric_limits<float>::infinity()),
         builder.getF32FloatAttr(std::numeric_limits<float>::quiet_NaN()),
         builder.getI32IntegerAttr(3), builder.getUnitAttr()}));
  return encoded;
}

static const BytecodeDialectInterface *getInterface(MLIRContext *context) {
  return context->getOrLoadDialect<MoEDialect>()
      ->getRegisteredInterface<BytecodeDialectInterface>();
}

/// Null with an error, or an attribute that is written and read back as itself.
TEST(BytecodeAttributeTest, RandomCodes) {
  std::unique_ptr<MLIRContext> context = createContext();
  const BytecodeDialectInterface *interface = getInterface(context.get());
  uint64_t numTaken = 0;
  runRounds(20000, [&](Random &random) {
    ErrorCollector errors(context.get());
    Reader reader(context.get(), makeRandom(random, context.get()));
    Attribute attribute = interface->readAttribute(reader);
    if (!attribute) {
      EXPECT_EQ(errors.getCount(), 1u) << errors.getText();
      return;
    }
    ++numTaken;
    EXPECT_EQ(errors.getCount(), 0u) << errors.getText();
    Writer writer;
    ASSERT_TRUE(succeeded(interface->writeAttribute(attribute, writer)));
    EXPECT_EQ(writer.numUnexpected, 0);
    Reader again(context.get(), writer.encoded);
    EXPECT_EQ(interface->readAttribute(again), attribute);
  });
  EXPECT_GT(numTaken, 0u);
}

TEST(BytecodeAttributeTest, RandomVersions) {
  std::unique_ptr<MLIRContext> context = createContext();
  const BytecodeDialectInterface *interface = getInterface(context.get());
  runRounds(1000, [&](Random &random) {
    ErrorCollector errors(context.get());
    Reader reader(context.get(), makeRandom(random, context.get()));
    std::unique_ptr<DialectVersion> version = interface->readVersion(reader);
    EXPECT_EQ(errors.getCount(), version ? 0u : 1u) << errors.getText();
  });
}
