//===- SizeChecksTest.cpp - Tests of refused calls, in numbers --*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/SizeChecks.h"
#include "TargetTest.h"
#include "moe/Target/EntrySignature.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class SizeChecksTest : public TargetTest {
protected:
  /// Lowers `text`; what is found out refers to no IR, so the IR is gone after.
  void lower(StringRef text) {
    OwningOpRef<ModuleOp> module = parse(text);
    ASSERT_TRUE(module);
    StageDumper stages;
    FailureOr<EntrySignature> lowered =
        lowerToLLVMDialect(*module, EntryOptions(), stages);
    ASSERT_TRUE(succeeded(lowered)) << diagnostics;
    signature = std::move(*lowered);
  }

  /// Why arguments of these shapes are refused with `code`, whichever tensor
  /// is to blame.
  std::string explain(int32_t code,
                      std::vector<std::vector<int64_t>> shapes) const {
    std::vector<moe_tensor> tensors;
    std::vector<const moe_tensor *> pointers;
    for (const std::vector<int64_t> &shape : shapes)
      tensors.push_back({nullptr, shape.data(), nullptr,
                         static_cast<int32_t>(shape.size()), MOE_F32});
    for (const moe_tensor &tensor : tensors)
      pointers.push_back(&tensor);
    for (const SizeCheck &check : signature.sizeChecks) {
      std::string text;
      if (MOE_STATUS_CODE(check.status) == code)
        text = explainSizes(check.status, signature, pointers);
      if (!text.empty())
        return text;
    }
    return "";
  }

  EntrySignature signature;
};

constexpr llvm::StringLiteral kGate = R"(
  func.func @f(%logits: tensor<?x?xf32> {moe.name = "logits"},
               %bias: tensor<?xf32> {moe.name = "bias"}) -> tensor<?x2xi32> {
    %c0 = arith.constant 0 : index
    %t = tensor.dim %logits, %c0 : tensor<?x?xf32>
    %w = tensor.empty(%t) : tensor<?x2xf32>
    %i = tensor.empty(%t) : tensor<?x2xi32>
    %0:2 = moe.gate score(sigmoid) GROUPS
        ins(%logits : tensor<?x?xf32>) bias(%bias : tensor<?xf32>)
        outs(%w, %i : tensor<?x2xf32>, tensor<?x2xi32>)
    return %0#1 : tensor<?x2xi32>
  })";

std::string makeGate(StringRef groups) {
  std::string text = kGate.str();
  text.replace(text.find("GROUPS"), 6, groups.str());
  return text;
}

TEST_F(SizeChecksTest, SizesThatDiffer) {
  lower(makeGate(""));
  EXPECT_EQ(explain(MOE_BAD_SHAPE, {{5, 8}, {7}}),
            "size 1 of 'logits' is 8, but size 0 of 'bias' is 7");
  EXPECT_EQ(explain(MOE_BAD_SHAPE, {{5, 8}, {8}}), "");
}

TEST_F(SizeChecksTest, FewerExpertsThanChoices) {
  lower(makeGate(""));
  EXPECT_EQ(explain(MOE_BAD_SHAPE, {{5, 1}, {1}}),
            "a token chooses k experts, and k is 2, but there are fewer to "
            "choose from: size 1 of 'logits' is 1");
}

TEST_F(SizeChecksTest, Groups) {
  lower(makeGate("groups<count = 4, keep = 1>"));
  std::string text = explain(MOE_BAD_SHAPE, {{5, 6}, {6}});
  EXPECT_NE(text.find("% 4 is 2, not 0"), std::string::npos) << text;
  text = explain(MOE_BAD_SHAPE, {{5, 4}, {4}});
  EXPECT_NE(text.find("k is 2, but there are fewer"), std::string::npos)
      << text;
  EXPECT_EQ(explain(MOE_BAD_SHAPE, {{5, 8}, {8}}), "");
}

TEST_F(SizeChecksTest, TooManyChoices) {
  lower(makeGate(""));
  EXPECT_EQ(explain(MOE_TOO_MANY_CHOICES, {{int64_t(1) << 30, 8}, {8}}),
            "tokens times k reaches 2^31: T * 2 is 2147483648");
  EXPECT_EQ(explain(MOE_TOO_MANY_CHOICES, {{(int64_t(1) << 30) - 1, 8}, {8}}),
            "");
  // The product overflows; one factor says it.
  EXPECT_EQ(explain(MOE_TOO_MANY_CHOICES, {{int64_t(1) << 62, 8}, {8}}),
            "tokens times k reaches 2^31: size 0 of 'logits' is "
            "4611686018427387904");
}

TEST_F(SizeChecksTest, NothingIsSaidOfOtherTensors) {
  lower(makeGate(""));
  EXPECT_EQ(explain(MOE_BAD_SHAPE, {}), "");
  EXPECT_EQ(explain(MOE_BAD_SHAPE, {{5, 8}}), "");
  EXPECT_EQ(explain(MOE_BAD_SHAPE, {{5}, {7}}), "");
  EXPECT_EQ(explainSizes(MOE_BAD_STRIDES, signature, {}), "");
}

} // namespace
