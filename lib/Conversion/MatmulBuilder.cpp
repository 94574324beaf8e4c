//===- MatmulBuilder.cpp - What code of a grouped matmul shares -----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MatmulBuilder.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::moe;

Value MatmulBuilder::loadIndex(OpBuilder &b, Value buffer, ValueRange at) {
  Value id = memref::LoadOp::create(b, loc, buffer, at);
  return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
}

MatmulBuilder::TokenOfRow MatmulBuilder::tokenOf(OpBuilder &b, Value row) {
  if (!op.getSource() || !op.getTopK())
    return {b.getIndexAttr(0), b.getIndexAttr(0)};
  Value choice = loadIndex(b, op.getSource(), row);
  Value topK = index(b, *op.getTopK());
  Value token = arith::DivUIOp::create(b, loc, choice, topK);
  Value position = arith::RemUIOp::create(b, loc, choice, topK);
  return {getAsOpFoldResult(token), getAsOpFoldResult(position)};
}

Value MatmulBuilder::numColumnsFrom(OpBuilder &b, Value column) {
  if (numColumns % config.getLanes() == 0)
    return Value();
  return sub(b, index(b, numColumns), column);
}
