//===- VectorAccess.cpp - Vectors of a buffer, masked or not --------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "VectorAccess.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

Value mlir::moe::loadVector(OpBuilder &b, Location loc, Value buffer,
                            ValueRange at, int64_t lanes, Value mask) {
  auto type = VectorType::get({lanes}, getElementTypeOrSelf(buffer.getType()));
  if (!mask)
    return vector::LoadOp::create(b, loc, type, buffer, at);
  Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  return vector::MaskedLoadOp::create(b, loc, type, buffer, at, mask, none);
}

void mlir::moe::storeVector(OpBuilder &b, Location loc, Value vector,
                            Value buffer, ValueRange at, Value mask) {
  if (mask)
    vector::MaskedStoreOp::create(b, loc, buffer, at, mask, vector);
  else
    vector::StoreOp::create(b, loc, vector, buffer, at);
}

void mlir::moe::buildPrefetch(OpBuilder &b, Location loc, Value buffer,
                              ValueRange at, bool toFirstCache) {
  memref::PrefetchOp::create(b, loc, buffer, at, /*isWrite=*/false,
                             /*localityHint=*/toFirstCache ? 3 : 2,
                             /*isDataCache=*/true);
}

Value mlir::moe::buildPrefixMask(OpBuilder &b, Location loc, int64_t lanes,
                                 int64_t count) {
  if (count == lanes)
    return Value();
  return vector::ConstantMaskOp::create(b, loc,
                                        VectorType::get({lanes}, b.getI1Type()),
                                        ArrayRef<int64_t>{count});
}
