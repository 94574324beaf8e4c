//===- RowPanel.cpp - Rows of a block, computed by a prologue -------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each task computes the rows of its block anew: an element of a row costs a
// few operations, and meets some two hundred products in the block.
//
//===----------------------------------------------------------------------===//

#include "RowPanel.h"

#include "VectorAccess.h"
#include "VectorRegion.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

Type mlir::moe::getRowType(const Matmul::Term &term) {
  if (!term.prologue)
    return getElementTypeOrSelf(term.lhs.getType());
  auto yield = cast<YieldOp>(term.prologue->front().getTerminator());
  return yield.getValues()[0].getType();
}

int64_t mlir::moe::getPanelLength(Type elementType, int64_t size,
                                  int64_t lanes) {
  // An odd number of cache lines: rows a power of two apart would share sets.
  int64_t line = lanes * 32 / elementType.getIntOrFloatBitWidth();
  return (llvm::divideCeil(size, line) | 1) * line;
}

std::string mlir::moe::findPrologueObstacle(const Matmul::Term &term) {
  if (!term.prologue)
    return "";
  for (AffineMap map : term.lhsExtraMaps)
    if (map.isFunctionOfDim(Matmul::kSum) && !isUnitStride(map, Matmul::kSum))
      return "an operand of the prologue does not have k as its last index; "
             "transpose it";
  if (Operation *scalar = findScalarOnlyOp(*term.prologue))
    return ("'" + scalar->getName().getStringRef() +
            "' in the prologue does not work on vectors; use elementwise ops "
            "of arith and math")
        .str();
  return "";
}

namespace {
class PanelRowBuilder {
public:
  PanelRowBuilder(Location loc, const Matmul::Term &term, MatmulIndices dims,
                  int64_t lanes)
      : loc(loc), term(term), dims(std::move(dims)), lanes(lanes) {}

  /// The prologue's values for `count` ≤ lanes elements from `k` on.
  Value build(OpBuilder &b, OpFoldResult k, int64_t count) {
    dims[Matmul::kSum] = k;
    SmallVector<Value> args = {load(b, term.lhs, term.lhsMap, count)};
    for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
      args.push_back(map.isFunctionOfDim(Matmul::kSum)
                         ? load(b, extra, map, count)
                         : broadcast(b, extra, map));
    return inlineOnVectors(b, loc, *term.prologue, args, lanes)[0];
  }

private:
  Location loc;
  const Matmul::Term &term;
  MatmulIndices dims;
  int64_t lanes;

  Value load(OpBuilder &b, Value buffer, AffineMap map, int64_t count) {
    return loadVector(b, loc, buffer, buildIndices(b, loc, map, dims), lanes,
                      buildPrefixMask(b, loc, lanes, count));
  }

  Value broadcast(OpBuilder &b, Value buffer, AffineMap map) {
    Value scalar =
        memref::LoadOp::create(b, loc, buffer, buildIndices(b, loc, map, dims));
    return vector::BroadcastOp::create(
        b, loc, VectorType::get({lanes}, scalar.getType()), scalar);
  }
};
} // namespace

Value mlir::moe::buildPrologueVector(OpBuilder &builder, Location loc,
                                     const Matmul::Term &term,
                                     const MatmulIndices &dims, int64_t count,
                                     int64_t lanes) {
  return PanelRowBuilder(loc, term, dims, lanes)
      .build(builder, dims[Matmul::kSum], count);
}

void mlir::moe::buildPanelRow(OpBuilder &builder, Location loc,
                              const Matmul::Term &term, MatmulIndices dims,
                              int64_t start, int64_t size, int64_t lanes,
                              Value panel, Value row) {
  PanelRowBuilder values(loc, term, std::move(dims), lanes);
  int64_t rest = size % lanes;
  Value wholeEnd = buildIndex(builder, loc, size - rest);
  auto store = [&](OpBuilder &b, Value place, int64_t count) {
    Value k = arith::AddIOp::create(b, loc, place, buildIndex(b, loc, start));
    vector::StoreOp::create(b, loc, values.build(b, k, count), panel,
                            ValueRange{row, place});
  };
  buildLoop(builder, loc, buildIndex(builder, loc, 0), wholeEnd,
            buildIndex(builder, loc, lanes),
            [&](OpBuilder &b, Value place) { store(b, place, lanes); });
  if (rest)
    store(builder, wholeEnd, rest);
}
