//===- AttributesTest.cpp - Attributes and their verification -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DialectTest.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

using AttributesTest = DialectTest;

TEST_F(AttributesTest, Groups) {
  auto groups =
      GroupsAttr::get(&context, 8, 4, GroupScore::Top2Sum, GroupMask::Zero);
  EXPECT_EQ(groups.getCount(), 8);
  EXPECT_EQ(groups.getKeep(), 4);
  EXPECT_EQ(groups.getScore(), GroupScore::Top2Sum);
  EXPECT_EQ(groups.getMask(), GroupMask::Zero);
}

TEST_F(AttributesTest, GroupsOutOfRange) {
  auto emitError = [&] { return mlir::emitError(loc); };
  auto get = [&](int64_t count, int64_t keep) {
    return GroupsAttr::getChecked(emitError, &context, count, keep,
                                  GroupScore::Max, GroupMask::NegInf);
  };
  EXPECT_TRUE(get(1, 1));
  EXPECT_TRUE(errors.empty()) << errors;
  EXPECT_FALSE(get(0, 1));
  EXPECT_FALSE(get(-1, 1));
  EXPECT_FALSE(get(4, 0));
  EXPECT_FALSE(get(4, 5));
  EXPECT_EQ(errors, "groups: count must be at least 1, got 0\n"
                    "groups: count must be at least 1, got -1\n"
                    "groups: keep must be between 1 and count = 4, got 0\n"
                    "groups: keep must be between 1 and count = 4, got 5\n");
}

TEST_F(AttributesTest, EpsilonIsZeroUnlessGiven) {
  auto none = RenormalizeAttr::get(&context, FloatAttr(), EpsMode::Add);
  EXPECT_TRUE(none.getEpsilon().isZero());
  EXPECT_EQ(&none.getEpsilon().getSemantics(), &APFloat::IEEEsingle());
  auto some = RenormalizeAttr::get(&context, builder.getF32FloatAttr(0.25f),
                                   EpsMode::Clamp);
  EXPECT_EQ(some.getEpsilon().convertToFloat(), 0.25f);
  EXPECT_EQ(some.getMode(), EpsMode::Clamp);
}

TEST_F(AttributesTest, EpsilonThatIsNone) {
  auto emitError = [&] { return mlir::emitError(loc); };
  auto get = [&](FloatAttr eps) {
    return RenormalizeAttr::getChecked(emitError, &context, eps, EpsMode::Add);
  };
  EXPECT_TRUE(get(builder.getF32FloatAttr(0.0f)));
  EXPECT_TRUE(errors.empty()) << errors;
  EXPECT_FALSE(get(builder.getF64FloatAttr(1.0e-20)));
  EXPECT_NE(errors.find("eps must be an f32, got 'f64'"), std::string::npos);
  EXPECT_FALSE(get(builder.getF32FloatAttr(-1.0f)));
  EXPECT_FALSE(
      get(builder.getF32FloatAttr(std::numeric_limits<float>::infinity())));
  EXPECT_FALSE(
      get(builder.getF32FloatAttr(std::numeric_limits<float>::quiet_NaN())));
}

/// The numbers go into bytecode: this test fails when one of them changes.
TEST_F(AttributesTest, NumbersOfEnumerations) {
  EXPECT_EQ(static_cast<int>(Score::Softmax), 0);
  EXPECT_EQ(static_cast<int>(Score::Sigmoid), 1);
  EXPECT_EQ(static_cast<int>(Score::SqrtSoftplus), 2);
  EXPECT_EQ(static_cast<int>(Score::None), 3);
  EXPECT_EQ(static_cast<int>(SelectOn::Scores), 0);
  EXPECT_EQ(static_cast<int>(SelectOn::Logits), 1);
  EXPECT_EQ(static_cast<int>(SoftmaxScope::All), 0);
  EXPECT_EQ(static_cast<int>(SoftmaxScope::Selected), 1);
  EXPECT_EQ(static_cast<int>(GroupScore::Max), 0);
  EXPECT_EQ(static_cast<int>(GroupScore::Top2Sum), 1);
  EXPECT_EQ(static_cast<int>(GroupMask::NegInf), 0);
  EXPECT_EQ(static_cast<int>(GroupMask::Zero), 1);
  EXPECT_EQ(static_cast<int>(EpsMode::Add), 0);
  EXPECT_EQ(static_cast<int>(EpsMode::Clamp), 1);
  EXPECT_EQ(static_cast<int>(CapacityOrder::TokenMajor), 0);
  EXPECT_EQ(static_cast<int>(CapacityOrder::ChoiceMajor), 1);
}

} // namespace
