//===- RowBroadcast.cpp - An element of a row, in all lanes ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RowBroadcast.h"

#include "VectorAccess.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

Value mlir::moe::broadcastElement(OpBuilder &b, Location loc,
                                  const TileSums::Operand &row,
                                  const MatmulIndices &dims, int64_t lanes) {
  SmallVector<Value> at = buildIndices(b, loc, row.map, dims);
  Value element = buildExtensionToF32(
      b, loc, memref::LoadOp::create(b, loc, row.buffer, at));
  return vector::BroadcastOp::create(
      b, loc, VectorType::get({lanes}, b.getF32Type()), element);
}

Value mlir::moe::broadcastPair(OpBuilder &b, Location loc,
                               const TileSums::Operand &row,
                               const MatmulIndices &dims, int64_t count,
                               int64_t lanes) {
  constexpr int64_t kPair = 2;
  SmallVector<Value> at = buildIndices(b, loc, row.map, dims);
  Value pair = loadVector(b, loc, row.buffer, at, kPair,
                          buildPrefixMask(b, loc, kPair, count));
  Value bits = vector::BitCastOp::create(
      b, loc, VectorType::get({1}, b.getI32Type()), pair);
  return vector::BroadcastOp::create(
      b, loc, VectorType::get({lanes}, b.getI32Type()),
      vector::ExtractOp::create(b, loc, bits, 0));
}

Value mlir::moe::extractOfPair(OpBuilder &b, Location loc, Value pairs,
                               int64_t i) {
  // A bf16 is the upper half of its f32.
  constexpr int32_t kHalf = 16;
  auto type = cast<VectorType>(pairs.getType());
  auto constant = [&](int32_t value) {
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(type, b.getI32IntegerAttr(value)));
  };
  Value bits =
      i == 0
          ? arith::ShLIOp::create(b, loc, pairs, constant(kHalf)).getResult()
          : arith::AndIOp::create(b, loc, pairs, constant(~((1 << kHalf) - 1)));
  return vector::BitCastOp::create(
      b, loc, VectorType::get(type.getShape(), b.getF32Type()), bits);
}
