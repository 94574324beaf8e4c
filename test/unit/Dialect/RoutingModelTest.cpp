//===- RoutingModelTest.cpp - Rows of experts without tokens ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/RoutingModel.h"
#include "gtest/gtest.h"

using namespace mlir::moe;

namespace {

ExpertLoad distribute(llvm::StringRef routing, int64_t numTokens, int64_t topK,
                      int64_t numExperts) {
  llvm::Expected<RoutingModel> model = RoutingModel::parse(routing);
  EXPECT_TRUE(bool(model)) << llvm::toString(model.takeError());
  llvm::Expected<ExpertLoad> load =
      model->distribute(numTokens, topK, numExperts);
  EXPECT_TRUE(bool(load)) << llvm::toString(load.takeError());
  return *load;
}

TEST(RoutingModelTest, UniformIsAnExpectation) {
  ExpertLoad load = distribute("uniform", 2, 1, 4);
  EXPECT_DOUBLE_EQ(load.getNumRows(), 2);
  EXPECT_DOUBLE_EQ(load.rows[3], 0.5);
  EXPECT_DOUBLE_EQ(load.touched[0], 1 - 0.75 * 0.75);
  EXPECT_DOUBLE_EQ(load.getMaxRows(), 0.5);
}

TEST(RoutingModelTest, ZipfOfExponentZeroIsUniform) {
  ExpertLoad zipf = distribute("zipf:0", 7, 3, 5);
  ExpertLoad uniform = distribute("uniform", 7, 3, 5);
  for (size_t e = 0; e < 5; ++e) {
    EXPECT_DOUBLE_EQ(zipf.rows[e], uniform.rows[e]);
    EXPECT_DOUBLE_EQ(zipf.touched[e], uniform.touched[e]);
  }
}

TEST(RoutingModelTest, NoTokenChoosesAnExpertTwice) {
  // Shares 1, 1/2, 1/3, 1/4 of k = 3 would give the first expert 1.44 and the
  // second 0.72 choices a token: what the first cannot take goes to others.
  ExpertLoad load = distribute("zipf:1.0", 10, 3, 4);
  EXPECT_DOUBLE_EQ(load.rows[0], 10);
  EXPECT_DOUBLE_EQ(load.touched[0], 1);
  EXPECT_NEAR(load.getNumRows(), 30, 1e-9);
  for (size_t e = 1; e < 4; ++e)
    EXPECT_LE(load.rows[e], load.rows[e - 1]);
}

TEST(RoutingModelTest, AllExpertsAndNone) {
  ExpertLoad all = distribute("zipf:3", 5, 4, 4);
  for (double rows : all.rows)
    EXPECT_DOUBLE_EQ(rows, 5);
  ExpertLoad noTokens = distribute("uniform", 0, 2, 4);
  EXPECT_EQ(noTokens.getNumRows(), 0);
  EXPECT_EQ(noTokens.getNumTouched(), 0);
  ExpertLoad noExperts = distribute("uniform", 5, 2, 0);
  EXPECT_EQ(noExperts.getNumRows(), 0);
  EXPECT_EQ(noExperts.getMaxRows(), 0);
}

TEST(RoutingModelTest, CapacityTakesRows) {
  ExpertLoad load = distribute("uniform", 8, 2, 4);
  load.limit(3);
  EXPECT_DOUBLE_EQ(load.getNumRows(), 12);
  load.limit(-1);
  EXPECT_EQ(load.getNumRows(), 0);
  EXPECT_EQ(load.getNumTouched(), 0);
}

} // namespace
