//===- MultiplyAdd.cpp - What a matmul does with two elements ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/MultiplyAdd.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;

bool mlir::moe::isFactorType(Type type) {
  return type.isF32() || type.isF16() || type.isBF16();
}

Value mlir::moe::skipExtension(Value value) {
  auto extension = value.getDefiningOp<arith::ExtFOp>();
  return extension ? extension.getIn() : value;
}

bool mlir::moe::addsProducts(linalg::LinalgOp op) {
  Block *body = op.getBlock();
  Value out = body->getArgument(2);
  auto add =
      body->getTerminator()->getOperand(0).getDefiningOp<arith::AddFOp>();
  if (!add || (add.getLhs() != out && add.getRhs() != out))
    return false;
  Value term = add.getLhs() == out ? add.getRhs() : add.getLhs();
  auto product = term.getDefiningOp<arith::MulFOp>();
  if (!product)
    return false;
  Value a = skipExtension(product.getLhs());
  Value b = skipExtension(product.getRhs());
  Value first = body->getArgument(0), second = body->getArgument(1);
  return (a == first && b == second) || (a == second && b == first);
}
