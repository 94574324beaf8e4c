//===- ContractionToGroupedMatmul.cpp - One group of rows -----------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RowGroups.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/MultiplyAdd.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOECONTRACTIONTOGROUPEDMATMUL
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {
/// rows (m, k) · weights (n, k), by the positions of the inputs.
struct Contraction {
  Value rows, weights;
};
} // namespace

/// Matches out[m, n] += rows[m, k] · weights[n, k].
static FailureOr<Contraction> matchContraction(linalg::LinalgOp op) {
  if (!op.hasPureTensorSemantics() || op.getNumDpsInputs() != 2 ||
      op.getNumDpsInits() != 1 || op.getNumLoops() != 3 ||
      op.getNumReductionLoops() != 1 || op.hasIndexSemantics() ||
      !addsProducts(op) || !getElementTypeOrSelf(op->getResult(0)).isF32())
    return failure();
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  auto dims = [&](AffineMap map) {
    SmallVector<unsigned> positions;
    for (AffineExpr expr : map.getResults())
      if (auto dim = dyn_cast<AffineDimExpr>(expr))
        positions.push_back(dim.getPosition());
    return positions;
  };
  SmallVector<unsigned> out = dims(maps[2]);
  SmallVector<unsigned> reduction;
  op.getReductionDims(reduction);
  if (out.size() != 2 || out[0] == out[1])
    return failure();
  SmallVector<unsigned> rows = {out[0], reduction[0]};
  SmallVector<unsigned> weights = {out[1], reduction[0]};
  Value first = op.getDpsInputOperand(0)->get();
  Value second = op.getDpsInputOperand(1)->get();
  if (dims(maps[0]) == rows && dims(maps[1]) == weights)
    return Contraction{first, second};
  if (dims(maps[1]) == rows && dims(maps[0]) == weights)
    return Contraction{second, first};
  return failure();
}

static bool isZeros(Value value) {
  Value scalar;
  if (auto fill = value.getDefiningOp<linalg::FillOp>())
    scalar = fill.getInputs()[0];
  else if (auto splat = value.getDefiningOp<tensor::SplatOp>())
    scalar = splat.getInput();
  return scalar && matchPattern(scalar, m_AnyZeroFloat());
}

/// The sizes that moe-select-cpu-strategy asks for.
static bool hasStaticSizes(const Contraction &contraction) {
  auto type = cast<RankedTensorType>(contraction.weights.getType());
  return type.hasStaticShape() && type.getNumElements() > 0 &&
         isFactorType(getElementTypeOrSelf(contraction.rows)) &&
         isFactorType(type.getElementType());
}

static void rewriteContraction(IRRewriter &rewriter, linalg::LinalgOp op,
                               const Contraction &contraction, bool cutsRows) {
  auto weightsType = cast<RankedTensorType>(contraction.weights.getType());
  bool cutRows = cutsRows && weightsType.getDimSize(0) <= kMostRouterColumns;
  Location loc = op.getLoc();
  rewriter.setInsertionPoint(op);
  MLIRContext *context = op.getContext();
  using Matmul = GroupedMatmulOp;
  auto dim = [&](unsigned position) {
    return getAffineDimExpr(position, context);
  };
  auto map = [&](unsigned outer, unsigned inner) {
    return AffineMap::get(Matmul::kNumDims, 0, {dim(outer), dim(inner)},
                          context);
  };
  Value init = op.getDpsInits()[0];
  SmallVector<Value> extras;
  SmallVector<AffineMap> extraMaps;
  if (!isZeros(init)) {
    extras.push_back(init);
    extraMaps.push_back(map(Matmul::kRow, Matmul::kColumn));
  }
  Value out;
  if (auto fill = init.getDefiningOp<linalg::FillOp>(); fill && extras.empty())
    out = fill.getOutputs()[0];
  else
    out = tensor::EmptyOp::create(rewriter, loc,
                                  tensor::getMixedSizes(rewriter, loc, init),
                                  rewriter.getF32Type());
  auto matmul = Matmul::create(
      rewriter, loc, TypeRange(op->getResultTypes()),
      cutRows ? buildRowGroups(rewriter, loc, contraction.rows)
              : buildRowGroup(rewriter, loc, contraction.rows),
      /*source=*/Value(),
      ValueRange{contraction.rows, contraction.weights}, extras,
      /*slots=*/Value(), /*weights=*/Value(), /*base=*/Value(), ValueRange{out},
      /*top_k=*/IntegerAttr(),
      rewriter.getAffineMapArrayAttr({map(Matmul::kRow, Matmul::kSum),
                                      map(Matmul::kColumn, Matmul::kSum)}),
      /*term_sizes=*/rewriter.getDenseI32ArrayAttr({2}),
      /*lhs_sizes=*/rewriter.getDenseI32ArrayAttr({1}),
      /*product_sizes=*/rewriter.getDenseI32ArrayAttr({1}),
      rewriter.getAffineMapArrayAttr(extraMaps), /*factorRegionsCount=*/2);
  OpBuilder::InsertionGuard guard(rewriter);
  SmallVector<Type> types(1 + extras.size(), rewriter.getF32Type());
  SmallVector<Location> locs(types.size(), loc);
  Block *body = rewriter.createBlock(&matmul.getEpilogue(), {}, types, locs);
  Value sum = body->getArgument(0);
  if (!extras.empty())
    sum = arith::AddFOp::create(rewriter, loc, body->getArgument(1), sum);
  YieldOp::create(rewriter, loc, sum);
  rewriter.replaceOp(op, matmul.getResults());
}

namespace {
struct ContractionToGroupedMatmulPass
    : moe::impl::MoEContractionToGroupedMatmulBase<
          ContractionToGroupedMatmulPass> {
  using Base::Base;

  void runOnOperation() override {
    SmallVector<linalg::LinalgOp> found;
    getOperation()->walk([&](linalg::LinalgOp op) {
      FailureOr<Contraction> contraction = matchContraction(op);
      if (succeeded(contraction) && hasStaticSizes(*contraction))
        found.push_back(op);
    });
    IRRewriter rewriter(&getContext());
    // Matched anew: what a contraction reads may have been one, and is
    // replaced.
    for (linalg::LinalgOp op : found)
      rewriteContraction(rewriter, op, *matchContraction(op), cutRows);
  }
};
} // namespace
