//===- EffectsTest.cpp - Effects and speculation on tensors and memrefs ---===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DialectTest.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class EffectsTest : public DialectTest {
protected:
  /// Operands that are read, then operands that are written, by number.
  using Numbers = SmallVector<unsigned>;
  std::pair<Numbers, Numbers> effectsOf(Operation *op) {
    SmallVector<MemoryEffects::EffectInstance> effects;
    cast<MemoryEffectOpInterface>(op).getEffects(effects);
    std::pair<Numbers, Numbers> readAndWritten;
    for (auto &effect : effects) {
      unsigned number =
          effect.getEffectValue<OpOperand *>()->getOperandNumber();
      if (isa<MemoryEffects::Read>(effect.getEffect()))
        readAndWritten.first.push_back(number);
      else if (isa<MemoryEffects::Write>(effect.getEffect()))
        readAndWritten.second.push_back(number);
      else
        ADD_FAILURE() << "an effect that is neither";
    }
    return readAndWritten;
  }
};

TEST_F(EffectsTest, GateOnMemrefs) {
  Type i32 = builder.getI32Type();
  auto args = startFunction(
      {memref({16, 4}), memref({4}), memref({16, 2}), memref({16, 2}, i32)});
  auto gate = GateOp::create(
      builder, loc, TypeRange(), args[0], args[1], /*mix=*/Value(),
      ValueRange{args[2], args[3]}, Score::Softmax, SelectOn::Scores,
      SoftmaxScope::All, GroupsAttr(), RenormalizeAttr(), APFloat(1.0f));
  EXPECT_EQ(effectsOf(gate), std::make_pair(Numbers({0, 1}), Numbers({2, 3})));
  EXPECT_FALSE(isPure(gate));
  EXPECT_TRUE(verifies()) << errors;
}

/// The capacity is an index: neither read from memory nor written.
TEST_F(EffectsTest, DispatchOnMemrefs) {
  Type i32 = builder.getI32Type();
  auto args = startFunction({memref({16, 2}, i32), memref({16, 8}),
                             builder.getIndexType(), memref({5}, i32),
                             memref({16, 2}, i32), memref({32, 8})});
  auto dispatch = DispatchOp::create(
      builder, loc, TypeRange(), args[0], ValueRange{args[1]}, ValueRange(),
      args[2], /*priority=*/Value(), /*tokens_per_group=*/Value(),
      ValueRange{args[3], args[4], args[5]}, CapacityOrder::TokenMajor,
      /*in_bounds=*/false);
  EXPECT_EQ(effectsOf(dispatch),
            std::make_pair(Numbers({0, 1}), Numbers({3, 4, 5})));
  EXPECT_FALSE(isSpeculatable(dispatch));
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(EffectsTest, CombineOnMemrefs) {
  Type i32 = builder.getI32Type();
  auto args =
      startFunction({memref({32, 8}), memref({16, 2}, i32), memref({16, 2}),
                     memref({16, 8}), memref({16, 8})});
  auto combine = CombineOp::create(builder, loc, TypeRange(), args[0], args[1],
                                   args[2], args[3], ValueRange{args[4]});
  EXPECT_EQ(effectsOf(combine),
            std::make_pair(Numbers({0, 1, 2, 3}), Numbers({4})));
  EXPECT_FALSE(isSpeculatable(combine));
  EXPECT_TRUE(verifies()) << errors;
}

TEST_F(EffectsTest, Tensors) {
  Type i32 = builder.getI32Type();
  auto args = startFunction({tensor({16, 4}), tensor({16, 8})});
  auto gate = GateOp::create(builder, loc, args[0], 2, Score::Softmax);
  EXPECT_TRUE(isPure(gate));
  auto dispatch = DispatchOp::create(builder, loc, gate.getResult(1), 4,
                                     ValueRange{args[1]});
  EXPECT_TRUE(isPure(dispatch));
  auto combine = CombineOp::create(builder, loc, dispatch.getResult(2),
                                   dispatch.getResult(1), gate.getResult(0));
  EXPECT_TRUE(isPure(combine));
  EXPECT_EQ(dispatch.getResult(0).getType(), tensor({5}, i32));
}

/// Without enough rows for sure, a dispatch must not run unasked.
TEST_F(EffectsTest, SpeculationOfDispatch) {
  Type i32 = builder.getI32Type();
  auto args =
      startFunction({tensor({16, 2}, i32), tensor({16, 8}), tensor({5}, i32),
                     tensor({32, 8}), tensor({31, 8}), tensor({kDynamic, 8})});
  auto dispatchInto = [&](Value rows) {
    SmallVector<Value> inits = {args[2], args[0], rows};
    return DispatchOp::create(builder, loc, TypeRange(inits), args[0],
                              ValueRange{args[1]}, ValueRange(), Value(),
                              Value(), Value(), inits,
                              CapacityOrder::TokenMajor, /*in_bounds=*/false);
  };
  EXPECT_TRUE(isSpeculatable(dispatchInto(args[3])));
  EXPECT_FALSE(isSpeculatable(dispatchInto(args[4])));
  EXPECT_FALSE(isSpeculatable(dispatchInto(args[5])));
  EXPECT_TRUE(isMemoryEffectFree(dispatchInto(args[4])));
}

} // namespace
