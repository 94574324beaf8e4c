//===- RandomLayer.h - Random valid IR --------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_FUZZ_RANDOMLAYER_H
#define MOE_TEST_UNIT_FUZZ_RANDOMLAYER_H

#include "FuzzHarness.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace mlir::moe::test {

/// A size of a tensor: a number, or a value where only a run knows it.
struct Size {
  int64_t number = ShapedType::kDynamic;
  Value value;

  Size(int64_t number) : number(number) {}
  Size(Value value) : value(value) {}
  bool isKnown() const { return !ShapedType::isDynamic(number); }
};

/// Builds one function, whose arguments come into being as they are asked for.
class RandomBuilder {
public:
  RandomBuilder(Random &random, MLIRContext *context);

  Random &random;
  OpBuilder builder;
  Location loc;

  /// The module; `results` are returned. Ends the building.
  OwningOpRef<ModuleOp> finish(ValueRange results);

  /// A new argument of the function.
  Value argument(Type type) { return entry->addArgument(type, loc); }

  /// A type of these sizes, some of which it may not tell.
  RankedTensorType makeType(ArrayRef<Size> sizes, Type elementType);
  /// An argument, or a tensor.empty, of such a type.
  Value makeTensor(ArrayRef<Size> sizes, Type elementType);
  /// A tensor.empty at the insertion point whose type tells all sizes that are
  /// numbers.
  Value makeEmpty(ArrayRef<Size> sizes, Type elementType);

  Value makeIndex(int64_t value);
  Value sizeValue(Size size) {
    return size.isKnown() ? makeIndex(size.number) : size.value;
  }
  /// f32, bf16 or f16.
  Type makeFloatType();
  /// Anything that a tensor may hold.
  Type makeElementType();

private:
  OwningOpRef<ModuleOp> module;
  func::FuncOp function;
  Block *entry;
};

/// What the ops of a layer agree on.
struct LayerSizes {
  Size tokens, topK, experts;
  Size offsets; // E + 1
  Size rows;    // M
};

/// The row values and per-expert values of a random moe.expert.
struct ExpertOperands {
  Value offsets;
  SmallVector<Value> rows, params;
};

/// A moe.expert with a random body: contractions, elementwise functions,
/// reductions, casts, conditions, values from above. Its row results are M×C
/// and M, its per-expert results E×….
SmallVector<Value> buildRandomExpert(RandomBuilder &b, const LayerSizes &sizes,
                                     const ExpertOperands &operands);

/// A module with one function: a random layer, or some ops of one.
OwningOpRef<ModuleOp> makeRandomLayer(Random &random, MLIRContext *context);

} // namespace mlir::moe::test

#endif // MOE_TEST_UNIT_FUZZ_RANDOMLAYER_H
