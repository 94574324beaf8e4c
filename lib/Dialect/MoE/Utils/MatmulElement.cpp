//===- MatmulElement.cpp - One element of a grouped matmul ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Utils/MatmulElement.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

MatmulElement::MatmulElement(OpBuilder &builder, Matmul op)
    : op(op), loc(op.getLoc()), products(op.getProducts()),
      zero(buildIndex(builder, loc, 0)), indices(Matmul::kNumDims, zero) {}

Value MatmulElement::readId(OpBuilder &b, Value ids, Value at) {
  Value id = buildElementRead(b, loc, ids, at);
  return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
}

void MatmulElement::enterRow(OpBuilder &b, Value row) {
  indices[Matmul::kRow] = row;
  if (!op.getSource() || !op.getTopK())
    return;
  Value source = readId(b, op.getSource(), row);
  Value topK = buildIndex(b, loc, *op.getTopK());
  indices[Matmul::kToken] = arith::DivUIOp::create(b, loc, source, topK);
  indices[Matmul::kChoice] = arith::RemUIOp::create(b, loc, source, topK);
}

SmallVector<Value> MatmulElement::build(OpBuilder &b) {
  SmallVector<Value> args;
  for (const Matmul::Product &product : products)
    args.push_back(buildProduct(b, product));
  auto maps = op.getExtraMaps().getAsValueRange<AffineMapAttr>();
  for (auto [extra, map] : llvm::zip(op.getExtras(), maps))
    args.push_back(buildRead(b, loc, extra, map, indices));
  return inlineRegion(b, op.getEpilogue(), args);
}

Value MatmulElement::buildProduct(OpBuilder &b,
                                  const Matmul::Product &product) {
  Value sum = buildFloat(b, loc, b.getF32Type(), 0.0);
  for (const Matmul::Term &term : product) {
    Value length = isa<TensorType>(term.lhs.getType())
                       ? tensor::DimOp::create(b, loc, term.lhs, 1).getResult()
                       : memref::DimOp::create(b, loc, term.lhs, 1).getResult();
    sum = buildFor(
        b, loc, zero, length, sum,
        [&](OpBuilder &b, Location, Value k, ValueRange sum) -> Carried {
          indices[Matmul::kSum] = k;
          Value lhs = buildExtensionToF32(b, loc, readLhs(b, term));
          Value weight = buildExtensionToF32(b, loc, readWeight(b, term));
          Value scaled = arith::MulFOp::create(b, loc, lhs, weight);
          return {arith::AddFOp::create(b, loc, sum[0], scaled)};
        })[0];
  }
  return sum;
}

Value MatmulElement::readLhs(OpBuilder &b, const Matmul::Term &term) {
  SmallVector<Value> args = {buildRead(b, loc, term.lhs, term.lhsMap, indices)};
  if (!term.prologue)
    return args[0];
  for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
    args.push_back(buildRead(b, loc, extra, map, indices));
  return inlineRegion(b, *term.prologue, args)[0];
}

Value MatmulElement::readWeight(OpBuilder &b, const Matmul::Term &term) {
  if (!term.decode)
    return buildRead(b, loc, term.getWeight(), term.getWeightMap(), indices);
  SmallVector<Value> args = {indices[Matmul::kColumn], indices[Matmul::kSum]};
  for (auto [stored, map] : llvm::zip(term.stored, term.storedMaps))
    args.push_back(buildRead(b, loc, stored, map, indices));
  return inlineRegion(b, *term.decode, args)[0];
}
