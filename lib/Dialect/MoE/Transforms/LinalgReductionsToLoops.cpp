//===- LinalgReductionsToLoops.cpp - Reductions with sums in registers ----===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELINALGREDUCTIONSTOLOOPS
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Builds the loops for one reduction. `indices` holds the induction variable
/// of each linalg loop while they are being built.
class ReductionBuilder {
public:
  ReductionBuilder(OpBuilder &builder, linalg::LinalgOp op, int64_t numChains)
      : op(op), loc(op.getLoc()), numChains(numChains),
        indices(op.getNumLoops()) {
    for (Range range : op.createLoopRanges(builder, loc))
      sizes.push_back(
          getValueOrCreateConstantIndexOp(builder, loc, range.size));
    op.getParallelDims(parallelDims);
    op.getReductionDims(reductionDims);
  }

  void build(OpBuilder &builder) { buildParallelLoop(builder, 0); }

private:
  linalg::LinalgOp op;
  Location loc;
  int64_t numChains;
  SmallVector<Value> indices, sizes;
  SmallVector<unsigned> parallelDims, reductionDims;

  SmallVector<Value> indicesOf(OpOperand &operand) {
    SmallVector<Value> at;
    for (AffineExpr expr : op.getMatchingIndexingMap(&operand).getResults())
      at.push_back(indices[cast<AffineDimExpr>(expr).getPosition()]);
    return at;
  }

  /// Loops over the parallel dimensions; the last one takes `numChains` outputs
  /// at a time, then the rest one by one.
  void buildParallelLoop(OpBuilder &b, unsigned depth) {
    if (depth == parallelDims.size())
      return buildSums(b, /*chainDim=*/std::nullopt, 1);
    unsigned dim = parallelDims[depth];
    Value zero = buildIndex(b, loc, 0);
    auto loop = [&](Value lower, Value upper, int64_t step,
                    function_ref<void(OpBuilder &)> body) {
      buildFor(
          b, loc, lower, upper, {},
          [&](OpBuilder &b, Location, Value iv, ValueRange) -> Carried {
            indices[dim] = iv;
            body(b);
            return {};
          },
          buildIndex(b, loc, step));
    };
    if (depth + 1 < parallelDims.size())
      return loop(zero, sizes[dim], 1,
                  [&](OpBuilder &b) { buildParallelLoop(b, depth + 1); });
    Value chains = buildIndex(b, loc, numChains);
    Value rest = arith::RemUIOp::create(b, loc, sizes[dim], chains);
    Value whole = arith::SubIOp::create(b, loc, sizes[dim], rest);
    loop(zero, whole, numChains,
         [&](OpBuilder &b) { buildSums(b, dim, numChains); });
    loop(whole, sizes[dim], 1, [&](OpBuilder &b) { buildSums(b, dim, 1); });
  }

  /// Loads `count` neighbouring outputs along `chainDim`, adds, stores.
  void buildSums(OpBuilder &b, std::optional<unsigned> chainDim,
                 int64_t count) {
    SmallVector<Value> chainIndices;
    for (int64_t i = 0; chainDim && i < count; ++i)
      chainIndices.push_back(arith::AddIOp::create(b, loc, indices[*chainDim],
                                                   buildIndex(b, loc, i)));
    auto atChain = [&](int64_t i) {
      if (chainDim)
        indices[*chainDim] = chainIndices[i];
    };
    OpOperand &out = *op.getDpsInitOperand(0);
    Carried sums;
    for (int64_t i = 0; i < count; ++i) {
      atChain(i);
      sums.push_back(memref::LoadOp::create(b, loc, out.get(), indicesOf(out)));
    }
    sums = buildReductionLoop(b, 0, sums, atChain);
    for (int64_t i = 0; i < count; ++i) {
      atChain(i);
      memref::StoreOp::create(b, loc, sums[i], out.get(), indicesOf(out));
    }
  }

  Carried buildReductionLoop(OpBuilder &b, unsigned depth, ValueRange sums,
                             function_ref<void(int64_t)> atChain) {
    if (depth == reductionDims.size()) {
      Carried next;
      for (auto [i, sum] : llvm::enumerate(sums)) {
        atChain(i);
        next.push_back(buildStep(b, sum));
      }
      return next;
    }
    unsigned dim = reductionDims[depth];
    return buildFor(b, loc, buildIndex(b, loc, 0), sizes[dim], sums,
                    [&](OpBuilder &b, Location, Value iv, ValueRange sums) {
                      indices[dim] = iv;
                      return buildReductionLoop(b, depth + 1, sums, atChain);
                    });
  }

  /// One run of the op's body with `sum` as the output element.
  Value buildStep(OpBuilder &b, Value sum) {
    Block *body = op.getBlock();
    IRMapping mapping;
    for (OpOperand *input : op.getDpsInputOperands()) {
      Value element = input->get();
      if (isa<MemRefType>(element.getType()))
        element = memref::LoadOp::create(b, loc, element, indicesOf(*input));
      mapping.map(op.getMatchingBlockArgument(input), element);
    }
    mapping.map(op.getMatchingBlockArgument(op.getDpsInitOperand(0)), sum);
    for (Operation &inner : body->without_terminator()) {
      if (auto index = dyn_cast<linalg::IndexOp>(inner))
        mapping.map(index.getResult(), indices[index.getDim()]);
      else
        b.clone(inner, mapping);
    }
    return mapping.lookupOrDefault(body->getTerminator()->getOperand(0));
  }
};

struct LinalgReductionsToLoopsPass
    : moe::impl::MoELinalgReductionsToLoopsBase<LinalgReductionsToLoopsPass> {
  void runOnOperation() override {
    SmallVector<linalg::LinalgOp> ops;
    getOperation()->walk([&](linalg::LinalgOp op) { ops.push_back(op); });
    IRRewriter rewriter(&getContext());
    for (linalg::LinalgOp op : ops)
      (void)rewriteReductionAsLoops(rewriter, op);
  }
};

} // namespace

LogicalResult mlir::moe::rewriteReductionAsLoops(RewriterBase &rewriter,
                                                 linalg::LinalgOp op,
                                                 int64_t numChains) {
  if (!op.hasPureBufferSemantics() || op.getNumDpsInits() != 1)
    return rewriter.notifyMatchFailure(op, "needs memrefs and one output");
  if (op.getNumReductionLoops() == 0)
    return rewriter.notifyMatchFailure(op, "reduces nothing");
  for (AffineMap map : op.getIndexingMapsArray())
    if (!map.isProjectedPermutation())
      return rewriter.notifyMatchFailure(op,
                                         "a map is no projected permutation");
  SmallVector<unsigned> reductionDims;
  op.getReductionDims(reductionDims);
  AffineMap outMap = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
  if (llvm::any_of(reductionDims,
                   [&](unsigned dim) { return outMap.isFunctionOfDim(dim); }))
    return rewriter.notifyMatchFailure(op, "the output varies as it reduces");
  rewriter.setInsertionPoint(op);
  ReductionBuilder(rewriter, op, numChains).build(rewriter);
  rewriter.eraseOp(op);
  return success();
}
