//===- SplitRoute.cpp - The parts of a route, for CPUs --------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../RowGroups.h"
#include "ColumnVectors.h"
#include "VectorRegion.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Transforms/SplitRoute.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESPLITROUTE
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// A map of a route's dimensions as one of a dense matmul's: tokens are its
/// rows, experts its columns.
static AffineMap toMatmulMap(AffineMap map) {
  MLIRContext *context = map.getContext();
  SmallVector<AffineExpr> dims(RouteOp::kNumDims,
                               getAffineConstantExpr(0, context));
  dims[RouteOp::kToken] = getAffineDimExpr(Matmul::kRow, context);
  dims[RouteOp::kExpert] = getAffineDimExpr(Matmul::kColumn, context);
  dims[RouteOp::kSum] = getAffineDimExpr(Matmul::kSum, context);
  return map.replaceDimsAndSymbols(dims, {}, Matmul::kNumDims, 0);
}

/// Whether the logits can be the results of a matmul's epilogue. Only with
/// arithmetic that is exact or rounds alike on scalars and vectors: what decides
/// must not depend on which of them a function like tanh was approximated for.
static bool canBeEpilogue(RouteOp op) {
  auto router = cast<RankedTensorType>(op.getRouter().getType());
  if (!router.hasStaticShape() || router.getNumElements() == 0)
    return false;
  Region &region = op.getLogits();
  if (region.empty())
    return true;
  for (Operation &inner : region.front().without_terminator())
    if (!isa<arith::ArithDialect>(inner.getDialect()))
      return false;
  return !findScalarOnlyOp(region) &&
         llvm::all_of(op.getExtraMaps().getAsValueRange<AffineMapAttr>(),
                      [](AffineMap map) {
                        AffineMap onColumns = toMatmulMap(map);
                        return !onColumns.isFunctionOfDim(Matmul::kColumn) ||
                               getColumnStride(onColumns);
                      });
}

/// The logits (and the mix) as one grouped matmul of dense rows.
static SmallVector<Value> buildLogits(OpBuilder &b, RouteOp op) {
  Location loc = op.getLoc();
  Type f32 = b.getF32Type();
  int64_t numExperts = op.getNumRouterExperts();
  SmallVector<Value> inits;
  for (int64_t i = 0; i < (op.hasMix() ? 2 : 1); ++i)
    inits.push_back(tensor::EmptyOp::create(
        b, loc,
        {tensor::getMixedSize(b, loc, op.getX(), 0), b.getIndexAttr(numExperts)},
        f32));
  SmallVector<AffineMap> factorMaps, extraMaps;
  for (AffineMap map : op.getRouterMaps().getAsValueRange<AffineMapAttr>())
    factorMaps.push_back(toMatmulMap(map));
  for (AffineMap map : op.getExtraMaps().getAsValueRange<AffineMapAttr>())
    extraMaps.push_back(toMatmulMap(map));
  auto matmul = Matmul::create(
      b, loc, TypeRange(ValueRange(inits)),
      buildRowGroups(b, loc, op.getX()), /*source=*/Value(),
      ValueRange{op.getX(), op.getRouter()}, op.getExtras(),
      /*slots=*/Value(), /*weights=*/Value(), /*base=*/Value(), inits,
      /*top_k=*/IntegerAttr(), b.getAffineMapArrayAttr(factorMaps),
      /*term_sizes=*/b.getDenseI32ArrayAttr({2}),
      /*lhs_sizes=*/b.getDenseI32ArrayAttr({1}),
      /*product_sizes=*/b.getDenseI32ArrayAttr({1}),
      b.getAffineMapArrayAttr(extraMaps), /*factorRegionsCount=*/2);
  if (!op.getLogits().empty()) {
    IRMapping mapping;
    op.getLogits().cloneInto(&matmul.getEpilogue(), mapping);
  } else {
    OpBuilder::InsertionGuard guard(b);
    Block *body = b.createBlock(&matmul.getEpilogue(), {}, {f32}, {loc});
    YieldOp::create(b, loc, body->getArgument(0));
  }
  return matmul.getResults();
}

namespace {
struct SplitRoutePass : moe::impl::MoESplitRouteBase<SplitRoutePass> {
  void runOnOperation() override {
    SmallVector<RouteOp> routes;
    getOperation()->walk([&](RouteOp op) {
      if (op.hasPureTensorSemantics())
        routes.push_back(op);
    });
    IRRewriter rewriter(&getContext());
    for (RouteOp op : routes) {
      rewriter.setInsertionPoint(op);
      SmallVector<Value> logits;
      if (canBeEpilogue(op))
        logits = buildLogits(rewriter, op);
      rewriter.replaceOp(op, splitRoute(rewriter, op, logits));
    }
  }
};
} // namespace
