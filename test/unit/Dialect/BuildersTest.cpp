//===- BuildersTest.cpp - The builders of the ops -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DialectTest.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

using BuildersTest = DialectTest;

TEST_F(BuildersTest, Gate) {
  auto args = startFunction({tensor({kDynamic, 64}), tensor({64})});
  auto gate = GateOp::create(builder, loc, args[0], /*topK=*/8, Score::Sigmoid,
                             args[1]);
  EXPECT_EQ(gate.getResult(0).getType(), tensor({kDynamic, 8}));
  EXPECT_EQ(gate.getResult(1).getType(),
            tensor({kDynamic, 8}, builder.getI32Type()));
  EXPECT_EQ(gate.getScore(), Score::Sigmoid);
  EXPECT_EQ(gate.getBias(), args[1]);
  EXPECT_EQ(gate.getSelectOn(), SelectOn::Scores);
  EXPECT_EQ(gate.getSoftmaxScope(), SoftmaxScope::All);
  EXPECT_FALSE(gate.getGroups() || gate.getRenormalize());
  EXPECT_EQ(gate.getScale().convertToFloat(), 1.0f);
  EXPECT_EQ(gate.getNumTokens(), kDynamic);
  EXPECT_EQ(gate.getNumExperts(), 64);
  EXPECT_EQ(gate.getTopK(), 8);
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(BuildersTest, GateWithoutBias) {
  auto args = startFunction({tensor({16, 64})});
  auto gate = GateOp::create(builder, loc, args[0], 1, Score::Softmax);
  EXPECT_FALSE(gate.getBias());
  EXPECT_EQ(gate.getResult(0).getType(), tensor({16, 1}));
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(BuildersTest, DispatchOfStaticTokens) {
  Type i32 = builder.getI32Type();
  auto args = startFunction({tensor({16, 2}, i32), tensor({16, 8}),
                             tensor({16, 2, 3}, builder.getBF16Type())});
  auto dispatch = DispatchOp::create(builder, loc, args[0], /*numExperts=*/4,
                                     ValueRange{args[1]}, ValueRange{args[2]});
  ASSERT_EQ(dispatch.getNumResults(), 4u);
  EXPECT_EQ(dispatch.getResult(0).getType(), tensor({5}, i32));
  EXPECT_EQ(dispatch.getResult(1).getType(), tensor({16, 2}, i32));
  EXPECT_EQ(dispatch.getResult(2).getType(), tensor({32, 8}));
  EXPECT_EQ(dispatch.getResult(3).getType(),
            tensor({32, 3}, builder.getBF16Type()));
  EXPECT_EQ(dispatch.getNumExperts(), 4);
  EXPECT_EQ(dispatch.getPayloads(), SmallVector<Value>({args[1], args[2]}));
  EXPECT_EQ(dispatch.getOrder(), CapacityOrder::TokenMajor);
  EXPECT_FALSE(dispatch.getCapacity() || dispatch.getInBounds());
  EXPECT_TRUE(verifies()) << errors;
}

/// The number of rows is T·k, computed from ids.
TEST_F(BuildersTest, DispatchOfDynamicTokens) {
  auto args = startFunction({tensor({kDynamic, 2}, builder.getI32Type()),
                             tensor({kDynamic, kDynamic})});
  auto dispatch =
      DispatchOp::create(builder, loc, args[0], 4, ValueRange{args[1]});
  EXPECT_EQ(dispatch.getResult(2).getType(), tensor({kDynamic, kDynamic}));
  auto empty = dispatch.getRowInits()[0].getDefiningOp<tensor::EmptyOp>();
  ASSERT_TRUE(empty);
  EXPECT_TRUE(
      empty.getDynamicSizes()[0].getDefiningOp<affine::AffineApplyOp>());
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(BuildersTest, DispatchWithoutPayloads) {
  auto args = startFunction({tensor({16, 2}, builder.getI32Type())});
  auto plan = DispatchOp::create(builder, loc, args[0], 4, ValueRange());
  EXPECT_EQ(plan.getNumResults(), 2u);
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(BuildersTest, Expert) {
  auto args = startFunction({tensor({5}, builder.getI32Type()), tensor({32, 8}),
                             tensor({32}), tensor({4, 3, 8}), tensor({4})});
  auto expert = ExpertOp::create(
      builder, loc, args[0], ValueRange{args[1], args[2]}, ValueRange{args[3]},
      ValueRange{args[1], args[4]},
      [&](OpBuilder &nested, Location nestedLoc, Value index, ValueRange rows,
          ValueRange params) -> SmallVector<Value> {
        EXPECT_TRUE(index.getType().isIndex());
        EXPECT_EQ(rows.size(), 2u);
        EXPECT_EQ(rows[0].getType(), tensor({kDynamic, 8}));
        EXPECT_EQ(rows[1].getType(), tensor({kDynamic}));
        EXPECT_EQ(params.size(), 1u);
        EXPECT_EQ(params[0].getType(), tensor({3, 8}));
        Value zero = arith::ConstantIndexOp::create(nested, nestedLoc, 0);
        Value scalar = tensor::ExtractOp::create(nested, nestedLoc, params[0],
                                                 ValueRange{zero, zero});
        Value slice = tensor::FromElementsOp::create(
            nested, nestedLoc, tensor({}), ValueRange{scalar});
        return {rows[0], slice};
      });
  EXPECT_TRUE(expert.isRowInit(0));
  EXPECT_FALSE(expert.isRowInit(1));
  EXPECT_EQ(expert.getNumExperts(), 4);
  EXPECT_EQ(expert.getRowArgs().size(), 2u);
  EXPECT_EQ(expert.getParamArgs().size(), 1u);
  EXPECT_EQ(expert.getYieldOp().getValues()[0], expert.getRowArgs()[0]);
  EXPECT_EQ(expert.getResult(1).getType(), tensor({4}));
  // The builder is back behind the op.
  EXPECT_EQ(builder.getInsertionBlock(), expert->getBlock());
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(BuildersTest, Combine) {
  Type i32 = builder.getI32Type(), bf16 = builder.getBF16Type();
  auto args =
      startFunction({tensor({kDynamic, 8}, bf16), tensor({kDynamic, 2}, i32),
                     tensor({kDynamic, 2}), tensor({kDynamic, 8})});
  auto plain = CombineOp::create(builder, loc, args[0], args[1], args[2]);
  EXPECT_EQ(plain.getResult(0).getType(), tensor({kDynamic, 8}, bf16));
  EXPECT_FALSE(plain.getBase());
  auto based =
      CombineOp::create(builder, loc, args[0], args[1], args[2], args[3]);
  EXPECT_EQ(based.getBase(), args[3]);
  EXPECT_TRUE(verifies()) << errors;
}

/// Builders do not check; the verifier does.
TEST_F(BuildersTest, TooManyChoices) {
  auto args = startFunction({tensor({16, 4})});
  GateOp::create(builder, loc, args[0], /*topK=*/5, Score::Softmax);
  EXPECT_FALSE(verifies());
  EXPECT_NE(errors.find("k = 5 must be between 1 and the number of experts, 4"),
            std::string::npos)
      << errors;
}

} // namespace
