//===- WorkClass.cpp - What a contraction multiplies ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/WorkClass.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;

StringRef mlir::moe::getName(WorkClass type) {
  static constexpr StringLiteral names[] = {"f64", "f32", "f16", "bf16",
                                            "integer"};
  return names[static_cast<size_t>(type)];
}

double mlir::moe::getSum(const Operations &operations) {
  return std::accumulate(operations.begin(), operations.end(), 0.0);
}

Value mlir::moe::getStored(Value value) {
  while (auto cast = value.getDefiningOp<arith::ExtFOp>())
    value = cast.getIn();
  return value;
}

WorkClass mlir::moe::classify(Type lhs, Type rhs) {
  if (!isa<FloatType>(lhs) || !isa<FloatType>(rhs))
    return WorkClass::Integer;
  if (lhs == rhs && lhs.isBF16())
    return WorkClass::BF16;
  if (lhs == rhs && lhs.isF16())
    return WorkClass::F16;
  if (lhs.isF64() || rhs.isF64())
    return WorkClass::F64;
  return WorkClass::F32;
}

WorkClass mlir::moe::classify(linalg::LinalgOp contraction) {
  auto typeOf = [&](unsigned i) {
    Value stored = getStored(contraction.getDpsInputOperand(i)->get());
    return getElementTypeOrSelf(stored.getType());
  };
  return classify(typeOf(0), typeOf(1));
}
