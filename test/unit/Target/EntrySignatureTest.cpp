//===- EntrySignatureTest.cpp - Tests of signatures and files ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/EntrySignature.h"
#include "TargetTest.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "moe/Target/LayerFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class EntrySignatureTest : public TargetTest {
protected:
  /// The signature of the only entry of `text`.
  EntrySignature read(StringRef text) {
    OwningOpRef<ModuleOp> module = parse(text);
    if (!module)
      return {};
    return read(*module);
  }
  EntrySignature read(ModuleOp module) {
    FailureOr<func::FuncOp> entry = findEntry(module, "");
    if (failed(entry))
      return {};
    FailureOr<EntrySignature> signature = readEntrySignature(*entry);
    return succeeded(signature) ? *signature : EntrySignature();
  }

  /// What parseLayerFile makes of a file with these bytes.
  OwningOpRef<ModuleOp> parseFile(StringRef bytes) {
    SmallString<128> path;
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("layer", "mlir", path));
    llvm::FileRemover remover(path);
    std::error_code error;
    llvm::raw_fd_ostream(path, error) << bytes;
    EXPECT_FALSE(error);
    llvm::SourceMgr sourceMgr;
    return parseLayerFile(path, sourceMgr, &context);
  }
};

TEST_F(EntrySignatureTest, readsTypesShapesAndNames) {
  EntrySignature signature = read(R"(
    func.func @f(%x: tensor<?x8xbf16> {moe.name = "tokens"},
                 %w: tensor<4x?xf16> {moe.param = "experts.{expert}.w"},
                 %s: tensor<i64>, %b: tensor<2xi1>)
        -> (tensor<f64> {moe.name = "loss"}) {
      %y = tensor.empty() : tensor<f64>
      return %y : tensor<f64>
    })");
  ASSERT_EQ(signature.arguments.size(), 4u);
  ASSERT_EQ(signature.results.size(), 1u);
  EXPECT_EQ(signature.name, "f");

  const EntryTensor &tokens = signature.arguments[0];
  EXPECT_EQ(tokens.name, "tokens");
  EXPECT_EQ(tokens.elementType, ElementType::BF16);
  EXPECT_EQ(tokens.shape, (SmallVector<int64_t, 4>{ShapedType::kDynamic, 8}));
  EXPECT_FALSE(tokens.isStatic());
  EXPECT_EQ(tokens.getTypeText(), "tensor<?x8xbf16>");

  EXPECT_EQ(signature.arguments[1].name, "arg1");
  EXPECT_EQ(signature.arguments[1].param, "experts.{expert}.w");
  EXPECT_EQ(signature.arguments[2].elementType, ElementType::I64);
  EXPECT_TRUE(signature.arguments[2].shape.empty());
  EXPECT_TRUE(signature.arguments[2].isStatic());
  EXPECT_EQ(signature.arguments[3].elementType, ElementType::Bool);
  EXPECT_EQ(signature.getTensor(4).name, "loss");
}

TEST_F(EntrySignatureTest, namesResults) {
  const char *two = R"(
    func.func @f(%a: tensor<1xf32> {moe.name = "y1"})
        -> (tensor<1xf32>, tensor<1xf32>) {
      return %a, %a : tensor<1xf32>, tensor<1xf32>
    })";
  EntrySignature signature = read(two);
  ASSERT_EQ(signature.results.size(), 2u);
  EXPECT_EQ(signature.results[0].name, "y0");
  // The argument has y1 already.
  EXPECT_EQ(signature.results[1].name, "y1_1");
}

TEST_F(EntrySignatureTest, manglesNamesForC) {
  EXPECT_EQ(mangleForC("layer"), "layer");
  EXPECT_EQ(mangleForC("model.layers.0-mlp"), "model_layers_0_mlp");
  EXPECT_EQ(mangleForC("0"), "_0");
  EXPECT_EQ(mangleForC(""), "_");
  EXPECT_EQ(mangleForC("int"), "int_");
  EXPECT_EQ(mangleForC("class"), "class_");
  EXPECT_EQ(mangleForC("workspace"), "workspace_");
  EXPECT_EQ(mangleForC("größe"), "gr____e");

  EntrySignature signature = read(R"(
    func.func @"my layer"(%a: tensor<1xf32> {moe.name = "a.b"},
                          %b: tensor<1xf32> {moe.name = "a-b"},
                          %c: tensor<1xf32> {moe.name = "y"}) -> tensor<1xf32> {
      return %a : tensor<1xf32>
    })");
  EXPECT_EQ(signature.cName, "my_layer");
  EXPECT_EQ(signature.arguments[0].cName, "a_b");
  EXPECT_EQ(signature.arguments[1].cName, "a_b_1");
  EXPECT_EQ(signature.results[0].cName, "y_1");
}

TEST_F(EntrySignatureTest, findsTheEntry) {
  OwningOpRef<ModuleOp> module = parse(R"(
    func.func private @declared(tensor<1xf32>) -> tensor<1xf32>
    func.func @f(%a: tensor<1xf32>) -> tensor<1xf32> { return %a : tensor<1xf32> }
    func.func private @g(%a: tensor<1xf32>) -> tensor<1xf32> { return %a : tensor<1xf32> })");
  ASSERT_TRUE(module);
  FailureOr<func::FuncOp> entry = findEntry(*module, "");
  ASSERT_TRUE(succeeded(entry));
  EXPECT_EQ(entry->getName(), "f");
  // A private function can be named.
  entry = findEntry(*module, "g");
  ASSERT_TRUE(succeeded(entry));
  EXPECT_EQ(entry->getName(), "g");

  EXPECT_TRUE(failed(findEntry(*module, "declared")));
  EXPECT_EQ(diagnostics, "there is no function @declared with a body: @f\n");
}

TEST_F(EntrySignatureTest, takesNamesFromTheText) {
  OwningOpRef<ModuleOp> module = parseFile(R"(
    func.func @f(%tokens: tensor<1xf32>, %0: tensor<1xf32>,
                 %w: tensor<1xf32> {moe.name = "weights"},
                 %y: tensor<1xf32>, %weights: tensor<1xf32>)
        -> (tensor<1xf32> {moe.name = "y"}) {
      return %tokens : tensor<1xf32>
    })");
  ASSERT_TRUE(module) << diagnostics;
  EntrySignature signature = read(*module);
  ASSERT_EQ(signature.arguments.size(), 5u) << diagnostics;
  EXPECT_EQ(signature.arguments[0].name, "tokens");
  EXPECT_EQ(signature.arguments[1].name, "arg1"); // a number says nothing
  EXPECT_EQ(signature.arguments[2].name, "weights");
  EXPECT_EQ(signature.arguments[3].name, "arg3"); // "y" is the result's
  EXPECT_EQ(signature.arguments[4].name, "arg4"); // "weights" is taken
}

TEST_F(EntrySignatureTest, readsBytecodeAndModules) {
  OwningOpRef<ModuleOp> module = parseFile(R"(
    module @named {
      func.func @f(%x: tensor<1xf32>) -> tensor<1xf32> { return %x : tensor<1xf32> }
    })");
  ASSERT_TRUE(module) << diagnostics;
  EXPECT_EQ(module->getName(), "named");
  std::string bytecode;
  llvm::raw_string_ostream os(bytecode);
  ASSERT_TRUE(succeeded(writeBytecodeToFile(*module, os)));
  OwningOpRef<ModuleOp> again = parseFile(bytecode);
  ASSERT_TRUE(again) << diagnostics;
  // The name was written as an attribute when the text was read.
  EXPECT_EQ(read(*again).arguments[0].name, "x");
}

TEST_F(EntrySignatureTest, reportsFilesThatCannotBeRead) {
  llvm::SourceMgr sourceMgr;
  EXPECT_FALSE(parseLayerFile("no/such.mlir", sourceMgr, &context));
  EXPECT_NE(diagnostics.find("cannot open input file 'no/such.mlir'"),
            std::string::npos);
  EXPECT_FALSE(parseFile("func.func @f("));
  // The magic of bytecode, and nothing after it.
  EXPECT_FALSE(parseFile(StringRef("ML\xefR", 4)));
}

TEST_F(EntrySignatureTest, explainsStatuses) {
  EntrySignature signature = read(R"(
    func.func @f(%x: tensor<?x8xf32> {moe.name = "x"}) -> tensor<?x8xf32> {
      return %x : tensor<?x8xf32>
    })");
  EXPECT_EQ(textOf(statusToError(MOE_OK, signature)), "");
  int64_t shape[] = {3, 7};
  moe_tensor x = {nullptr, shape, nullptr, 2, MOE_F32};
  EXPECT_EQ(textOf(statusToError(MOE_BAD_SHAPE + 256, signature, {&x})),
            "@f: 'x', a tensor<?x8xf32>: the shape [3, 7] differs from the "
            "compiled one, or from what other arguments imply");
  EXPECT_EQ(textOf(statusToError(MOE_BAD_TYPE + 256, signature, {&x})),
            "@f: 'x', a tensor<?x8xf32>: wrong element type 1");
  EXPECT_EQ(textOf(statusToError(MOE_NULL_POINTER + 512, signature)),
            "@f: 'y', a tensor<?x8xf32>: the tensor, its data or its shape is "
            "NULL");
  EXPECT_EQ(textOf(statusToError(MOE_TOO_MANY_CHOICES, signature)),
            "@f: tokens times k reaches 2^31");
  EXPECT_EQ(textOf(statusToError(99 + 256 * 77, signature)),
            "@f: status 19811");
}

} // namespace
