//===- LayerBuilderTest.cpp - buildLayer and the ready activations --------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// What is built, and where it rounds. test/Embedding runs what it computes.
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/LayerBuilder.h"
#include "DialectTest.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class LayerBuilderTest : public DialectTest {
protected:
  LayerBuilderTest() {
    context.loadDialect<linalg::LinalgDialect, math::MathDialect>();
  }

  /// A function with the operands of a layer of T×8, `numExperts` experts of
  /// inner width 6, in `type`; k = 2.
  LayerSpec startLayer(Type type, int64_t numExperts = 4,
                       int64_t numTokens = kDynamic) {
    auto args = startFunction(
        {tensor({numTokens, 8}, type), tensor({numExperts, 8}, type),
         tensor({numExperts, 6, 8}, type), tensor({numExperts, 6, 8}, type),
         tensor({numExperts, 8, 6}, type), tensor({numExperts}),
         tensor({numTokens, 8}, type)});
    bias = args[5];
    base = args[6];
    LayerSpec spec;
    spec.x = args[0];
    spec.router = args[1];
    spec.gateProj = args[2];
    spec.upProj = args[3];
    spec.downProj = args[4];
    spec.topK = 2;
    return spec;
  }

  /// The ops of one kind, in the order of the text.
  template <typename OpTy>
  SmallVector<OpTy> all() {
    SmallVector<OpTy> ops;
    module->walk<WalkOrder::PreOrder>([&](OpTy op) { ops.push_back(op); });
    return ops;
  }

  Value bias, base;
};

TEST_F(LayerBuilderTest, InF32NothingIsCast) {
  LayerSpec spec = startLayer(builder.getF32Type());
  FailureOr<Value> y = buildLayer(builder, loc, spec);
  ASSERT_TRUE(succeeded(y)) << errors;
  EXPECT_EQ(y->getType(), spec.x.getType());
  EXPECT_TRUE(all<arith::TruncFOp>().empty());
  EXPECT_TRUE(all<arith::ExtFOp>().empty());
  // Router, gate, up, down.
  EXPECT_EQ(all<linalg::MatmulOp>().size(), 4u);

  GateOp gate = all<GateOp>().front();
  EXPECT_EQ(gate.getScore(), Score::Softmax);
  DispatchOp dispatch = all<DispatchOp>().front();
  EXPECT_EQ(dispatch.getIds(), gate.getResult(1));
  EXPECT_EQ(dispatch.getTokens().front(), spec.x);
  EXPECT_TRUE(dispatch.getChoices().empty());
  ExpertOp expert = all<ExpertOp>().front();
  EXPECT_EQ(SmallVector<Value>(expert.getParams()),
            SmallVector<Value>({spec.gateProj, spec.upProj, spec.downProj}));
  CombineOp combine = all<CombineOp>().front();
  EXPECT_EQ(combine.getWeights(), gate.getResult(0));
  EXPECT_EQ(combine.getRows(), expert.getResult(0));
  EXPECT_EQ(combine.getResult(0), *y);
  EXPECT_TRUE(verifies()) << errors;
}

/// Each value that the model rounds is a truncf, and the logits go back to f32.
TEST_F(LayerBuilderTest, InBF16EveryStepRounds) {
  LayerSpec spec = startLayer(builder.getBF16Type());
  ASSERT_TRUE(succeeded(buildLayer(builder, loc, spec))) << errors;
  GateOp gate = all<GateOp>().front();
  auto widened = gate.getLogits().getDefiningOp<arith::ExtFOp>();
  ASSERT_TRUE(widened);
  EXPECT_TRUE(widened.getIn().getDefiningOp<arith::TruncFOp>());
  // Logits; gate, up and silu in the map; down.
  EXPECT_EQ(all<arith::TruncFOp>().size(), 5u);
  auto yielded = all<ExpertOp>().front().getYieldOp().getValues().front();
  auto rounded = yielded.getDefiningOp<arith::TruncFOp>();
  ASSERT_TRUE(rounded);
  auto sum = rounded.getIn().getDefiningOp<linalg::MatmulOp>();
  ASSERT_TRUE(sum);
  EXPECT_EQ(sum.getResult(0).getType(), tensor({kDynamic, 8}));
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(LayerBuilderTest, WeightsInTheBodyAreAPayload) {
  LayerSpec spec = startLayer(builder.getBF16Type());
  spec.weightedIn = WeightedIn::Body;
  ASSERT_TRUE(succeeded(buildLayer(builder, loc, spec))) << errors;
  DispatchOp dispatch = all<DispatchOp>().front();
  ASSERT_EQ(dispatch.getChoices().size(), 1u);
  EXPECT_EQ(dispatch.getChoices().front().getType(),
            tensor({kDynamic, 2}, builder.getBF16Type()));
  ExpertOp expert = all<ExpertOp>().front();
  EXPECT_EQ(expert.getRows().size(), 2u);
  auto product =
      expert.getYieldOp().getValues().front().getDefiningOp<arith::MulFOp>();
  ASSERT_TRUE(product);
  EXPECT_EQ(product.getType(), tensor({kDynamic, 8}, builder.getBF16Type()));
  // Combine multiplies by one.
  auto ones =
      all<CombineOp>().front().getWeights().getDefiningOp<linalg::FillOp>();
  ASSERT_TRUE(ones);
  auto one = ones.getInputs().front().getDefiningOp<arith::ConstantOp>();
  EXPECT_EQ(one.getValue(), builder.getF32FloatAttr(1.0f));
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(LayerBuilderTest, GateTakesWhatTheSpecSays) {
  LayerSpec spec = startLayer(builder.getBF16Type());
  spec.score = Score::Sigmoid;
  spec.selectOn = SelectOn::Logits;
  spec.groups =
      GroupsAttr::get(&context, 2, 1, GroupScore::Top2Sum, GroupMask::NegInf);
  spec.renormalize = RenormalizeAttr::get(
      &context, builder.getF32FloatAttr(1.0e-20f), EpsMode::Add);
  spec.scale = 2.5f;
  spec.bias = bias;
  spec.roundLogits = false;
  ASSERT_TRUE(succeeded(buildLayer(builder, loc, spec))) << errors;
  GateOp gate = all<GateOp>().front();
  EXPECT_EQ(gate.getScore(), Score::Sigmoid);
  EXPECT_EQ(gate.getSelectOn(), SelectOn::Logits);
  EXPECT_EQ(gate.getGroupsAttr(), spec.groups);
  EXPECT_EQ(gate.getRenormalizeAttr(), spec.renormalize);
  EXPECT_EQ(gate.getScale().convertToFloat(), 2.5f);
  EXPECT_EQ(gate.getBias(), bias);
  EXPECT_TRUE(gate.getLogits().getDefiningOp<linalg::MatmulOp>());
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(LayerBuilderTest, WithoutUpProjectionAndWithBase) {
  LayerSpec spec = startLayer(builder.getF32Type());
  spec.upProj = {};
  spec.base = base;
  ASSERT_TRUE(succeeded(buildLayer(builder, loc, spec, buildRelu2))) << errors;
  EXPECT_EQ(all<ExpertOp>().front().getParams().size(), 2u);
  EXPECT_EQ(all<linalg::MatmulOp>().size(), 3u);
  EXPECT_EQ(all<linalg::MapOp>().front().getInputs().size(), 1u);
  EXPECT_EQ(all<CombineOp>().front().getBase(), base);
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(LayerBuilderTest, StaticTokensMakeStaticTypes) {
  LayerSpec spec = startLayer(builder.getF32Type(), 4, /*numTokens=*/16);
  FailureOr<Value> y = buildLayer(builder, loc, spec);
  ASSERT_TRUE(succeeded(y)) << errors;
  EXPECT_EQ(y->getType(), tensor({16, 8}));
  EXPECT_EQ(all<DispatchOp>().front().getResult(2).getType(), tensor({32, 8}));
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(LayerBuilderTest, AnyNumberOfExperts) {
  LayerSpec spec = startLayer(builder.getF32Type(), kDynamic);
  spec.upProj = {};
  ASSERT_TRUE(succeeded(buildLayer(builder, loc, spec, buildGelu))) << errors;
  EXPECT_EQ(all<DispatchOp>().front().getResult(0).getType(),
            tensor({kDynamic}, builder.getI32Type()));
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(LayerBuilderTest, AnActivationOfOnesOwn) {
  LayerSpec spec = startLayer(builder.getBF16Type());
  int calls = 0;
  auto clampedDifference = [&](OpBuilder &nested, Location nestedLoc,
                               Value gate, Value up) -> Value {
    ++calls;
    EXPECT_EQ(gate.getType(), builder.getBF16Type());
    EXPECT_EQ(up.getType(), builder.getBF16Type());
    return arith::SubFOp::create(nested, nestedLoc, gate, up);
  };
  ASSERT_TRUE(succeeded(buildLayer(builder, loc, spec, clampedDifference)))
      << errors;
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(all<arith::SubFOp>().size(), 1u);
  EXPECT_TRUE(all<math::ExpOp>().empty());
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(LayerBuilderTest, EveryReadyActivationVerifies) {
  for (ActivationBuilder activation :
       {ActivationBuilder(buildSilu), ActivationBuilder(buildGelu),
        ActivationBuilder(buildGeluTanh), ActivationBuilder(buildRelu),
        ActivationBuilder(buildRelu2)})
    for (Type type : {Type(builder.getF32Type()), Type(builder.getBF16Type()),
                      Type(builder.getF16Type())}) {
      LayerSpec spec = startLayer(type);
      ASSERT_TRUE(succeeded(buildLayer(builder, loc, spec, activation)));
      EXPECT_TRUE(verifies()) << errors;
    }
}

/// What does not fit is an error that names it, and nothing is built.
TEST_F(LayerBuilderTest, OperandsThatDoNotFit) {
  LayerSpec good = startLayer(builder.getF32Type(), 4, 16);
  auto other = startFunction({tensor({4, 7, 8}), tensor({4, 8, 6, 1}),
                              tensor({4, 6, 8}, builder.getBF16Type()),
                              tensor({4}, builder.getF16Type()),
                              tensor({15, 8}), memref({16, 8})});
  Block *block = builder.getInsertionBlock();
  size_t numOps = block->getOperations().size();
  auto expectError = [&](function_ref<void(LayerSpec &)> change,
                         StringRef message) {
    errors.clear();
    LayerSpec spec = good;
    change(spec);
    EXPECT_TRUE(failed(buildLayer(builder, loc, spec)));
    EXPECT_EQ(StringRef(errors).rtrim(), message);
    EXPECT_EQ(block->getOperations().size(), numOps);
  };
  expectError([&](LayerSpec &s) { s.router = {}; },
              "layer: 'router' must be a tensor E×H of 'f32', but is missing");
  expectError([&](LayerSpec &s) { s.x = other[5]; },
              "layer: 'x' must be a tensor T×H of f32, f16 or bf16, got "
              "'memref<16x8xf32>'");
  expectError([&](LayerSpec &s) { s.upProj = other[0]; },
              "layer: 'upProj' has I = 7, but 'gateProj' has I = 6");
  expectError([&](LayerSpec &s) { s.downProj = other[1]; },
              "layer: 'downProj' must be a tensor E×H×I of 'f32', got "
              "'tensor<4x8x6x1xf32>'");
  expectError([&](LayerSpec &s) { s.gateProj = other[2]; },
              "layer: 'gateProj' must be a tensor E×I×H of 'f32', got "
              "'tensor<4x6x8xbf16>'");
  expectError([&](LayerSpec &s) { s.bias = other[3]; },
              "layer: 'bias' must be a tensor E of 'f32', got "
              "'tensor<4xf16>'");
  expectError([&](LayerSpec &s) { s.base = other[4]; },
              "layer: 'base' has T = 15, but 'x' has T = 16");
  expectError([&](LayerSpec &s) { s.topK = 5; },
              "layer: topK = 5 must be between 1 and the number of experts, 4");
  expectError([&](LayerSpec &s) { s.topK = 0; },
              "layer: topK = 0 must be between 1 and the number of experts, 4");
}

} // namespace
