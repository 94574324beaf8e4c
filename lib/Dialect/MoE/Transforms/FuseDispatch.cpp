//===- FuseDispatch.cpp - Grouped matmuls that read tokens ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FusionRemarks.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEDISPATCH
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Dims = GroupedMatmulOp;

namespace {

class DispatchFusion {
public:
  DispatchFusion(RewriterBase &rewriter, DispatchOp dispatch)
      : b(rewriter), loc(dispatch.getLoc()), dispatch(dispatch),
        payloads(dispatch.getPayloads()),
        topK(cast<ShapedType>(dispatch.getIds().getType()).getDimSize(1)) {}

  LogicalResult run() {
    if (!dispatch.hasPureTensorSemantics() || payloads.empty())
      return b.notifyMatchFailure(dispatch, "no payloads on tensors");
    if (ShapedType::isDynamic(topK))
      return decline(dispatch, "the number of choices a token is unknown",
                     "give ids a static second dimension");
    if (failed(findSpared()))
      return failure();
    buildPlan();
    return success();
  }

private:
  RewriterBase &b;
  Location loc;
  DispatchOp dispatch;
  SmallVector<Value> payloads;
  int64_t topK;
  /// Payloads of which no row is needed.
  llvm::SmallBitVector spared;

  Value rowsOf(unsigned payload) { return dispatch.getResult(2 + payload); }
  bool isToken(unsigned payload) {
    return payload < dispatch.getTokens().size();
  }

  LogicalResult decline(Operation *at, StringRef reason, StringRef advice) {
    remarkMissed(kDispatchRemark, dispatch, at->getLoc(),
                 "rows of tokens are copied", reason, advice);
    return b.notifyMatchFailure(dispatch, reason);
  }

  /// Whether `use` of dispatched rows can read the payload instead.
  bool canReadPayload(OpOperand &use) {
    if (isa<tensor::DimOp>(use.getOwner()))
      return true;
    auto matmul = dyn_cast<GroupedMatmulOp>(use.getOwner());
    // With other offsets it may read rows that are none of a choice.
    if (!matmul || matmul.getSource() ||
        matmul.getOffsets() != dispatch.getResult(0))
      return false;
    auto result = cast<OpResult>(use.get());
    if (!isToken(result.getResultNumber() - 2) && isLhs(matmul, use.get()))
      return false; // It has a row for each choice, which an lhs cannot say.
    AffineMapAttr map = mapOf(matmul, use);
    return map && map.getValue().getResult(0) ==
                      getAffineDimExpr(Dims::kRow, b.getContext());
  }

  static bool isLhs(GroupedMatmulOp matmul, Value rows) {
    for (const GroupedMatmulOp::Product &product : matmul.getProducts())
      for (const GroupedMatmulOp::Term &term : product)
        if (term.lhs == rows)
          return true;
    return false;
  }

  /// The index of an operand of the products or extras; null for others.
  static AffineMapAttr mapOf(GroupedMatmulOp matmul, OpOperand &use) {
    unsigned number = use.getOperandNumber();
    auto find = [&](OperandRange operands, ArrayAttr maps) -> AffineMapAttr {
      unsigned begin = operands.getBeginOperandIndex();
      if (number < begin || number >= begin + operands.size())
        return {};
      return cast<AffineMapAttr>(maps[number - begin]);
    };
    if (AffineMapAttr map = find(matmul.getFactors(), matmul.getFactorMaps()))
      return map;
    return find(matmul.getExtras(), matmul.getExtraMaps());
  }

  /// Which payloads are spared, if that is worth a plan.
  LogicalResult findSpared() {
    spared.resize(payloads.size());
    Operation *reader = nullptr;
    bool isWorthIt = false, isRead = false;
    for (unsigned i = 0; i < payloads.size(); ++i) {
      spared[i] = true;
      for (OpOperand &use : rowsOf(i).getUses()) {
        isRead |= isa<GroupedMatmulOp>(use.getOwner());
        if (!canReadPayload(use)) {
          spared[i] = false;
          reader = use.getOwner();
        }
      }
      isWorthIt |= spared[i] && isToken(i) && !rowsOf(i).use_empty() &&
                   cast<ShapedType>(payloads[i].getType()).getRank() > 1;
    }
    if (!isRead)
      return b.notifyMatchFailure(dispatch, "no grouped matmul reads its rows");
    if (isWorthIt || spared.all())
      return success();
    return decline(reader,
                   ("'" + reader->getName().getStringRef() +
                    "' reads rows of tokens that are not as a grouped matmul "
                    "can gather them")
                       .str(),
                   "");
  }

  void buildPlan() {
    b.setInsertionPoint(dispatch);
    Value rowInit = dispatch.getRowInits()[0];
    Value empty = tensor::EmptyOp::create(
        b, loc, {tensor::getMixedSize(b, loc, rowInit, 0)}, b.getI32Type());
    SmallVector<Value> inits = {dispatch.getOffsetsInit(),
                                dispatch.getSlotsInit(), empty};
    auto plan = PlanOp::create(b, loc, TypeRange(inits), dispatch.getIds(),
                               dispatch.getCapacity(), dispatch.getPriority(),
                               dispatch.getTokensPerGroup(), inits,
                               dispatch.getOrder());
    readPayloads(plan.getResult(2));
    SmallVector<Value> replacements(dispatch->getNumResults());
    replacements[0] = plan.getResult(0);
    replacements[1] = plan.getResult(1);
    buildRest(replacements);
    for (auto [result, value] : llvm::zip(dispatch->getResults(), replacements))
      if (value)
        b.replaceAllUsesWith(result, value);
    b.eraseOp(dispatch);
  }

  /// A dispatch of the payloads that others read.
  void buildRest(MutableArrayRef<Value> replacements) {
    if (spared.all())
      return;
    SmallVector<Value> tokens, choices,
        inits = {dispatch.getOffsetsInit(), dispatch.getSlotsInit()};
    SmallVector<unsigned> kept;
    for (unsigned i = 0; i < payloads.size(); ++i) {
      if (spared[i])
        continue;
      (isToken(i) ? tokens : choices).push_back(payloads[i]);
      inits.push_back(dispatch.getRowInits()[i]);
      kept.push_back(2 + i);
    }
    auto rest =
        DispatchOp::create(b, loc, TypeRange(inits), dispatch.getIds(), tokens,
                           choices, dispatch.getCapacity(),
                           dispatch.getPriority(), dispatch.getTokensPerGroup(),
                           inits, dispatch.getOrder(), dispatch.getInBounds());
    for (auto [i, result] : llvm::enumerate(kept))
      replacements[result] = rest.getResult(2 + i);
  }

  /// The payload that `value` is the rows of, if no row of it is needed.
  std::optional<unsigned> sparedPayload(Value value) {
    auto result = dyn_cast<OpResult>(value);
    if (!result || result.getOwner() != dispatch ||
        result.getResultNumber() < 2)
      return std::nullopt;
    unsigned payload = result.getResultNumber() - 2;
    return spared[payload] ? std::optional(payload) : std::nullopt;
  }

  /// Lets all readers of rows that are spared read the payloads.
  void readPayloads(Value source) {
    llvm::SetVector<GroupedMatmulOp> matmuls;
    for (unsigned i = 0; i < payloads.size(); ++i) {
      if (!spared[i])
        continue;
      for (OpOperand &use : llvm::make_early_inc_range(rowsOf(i).getUses()))
        if (auto matmul = dyn_cast<GroupedMatmulOp>(use.getOwner()))
          matmuls.insert(matmul);
        else // Only the number of rows.
          b.modifyOpInPlace(use.getOwner(),
                            [&] { use.set(dispatch.getRowInits()[i]); });
    }
    for (GroupedMatmulOp matmul : matmuls)
      b.modifyOpInPlace(matmul, [&] {
        matmul.setFactorMapsAttr(
            readPayloads(matmul.getFactorsMutable(), matmul.getFactorMaps()));
        matmul.setExtraMapsAttr(
            readPayloads(matmul.getExtrasMutable(), matmul.getExtraMaps()));
        matmul.setTopK(topK);
        matmul.getSourceMutable().assign(source);
      });
  }

  /// The same for a list of operands; returns their new indices.
  ArrayAttr readPayloads(MutableOperandRange operands, ArrayAttr maps) {
    SmallVector<Attribute> values(maps.getValue());
    for (unsigned i = 0; i < operands.size(); ++i)
      if (std::optional<unsigned> payload = sparedPayload(operands[i].get())) {
        AffineMap map = cast<AffineMapAttr>(maps[i]).getValue();
        values[i] = AffineMapAttr::get(gather(map, *payload));
        operands[i].set(payloads[*payload]);
      }
    return b.getArrayAttr(values);
  }

  /// [m, …] as [t, …] or [t, j, …].
  AffineMap gather(AffineMap map, unsigned payload) {
    SmallVector<AffineExpr> index = {
        getAffineDimExpr(Dims::kToken, b.getContext())};
    if (!isToken(payload))
      index.push_back(getAffineDimExpr(Dims::kChoice, b.getContext()));
    llvm::append_range(index, map.getResults().drop_front());
    return AffineMap::get(map.getNumDims(), 0, index, b.getContext());
  }
};

struct FuseDispatch : OpRewritePattern<DispatchOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(DispatchOp dispatch,
                                PatternRewriter &rewriter) const override {
    return rewriteDispatchAsPlan(rewriter, dispatch);
  }
};

struct FuseCombine : OpRewritePattern<CombineOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(CombineOp combine,
                                PatternRewriter &rewriter) const override {
    return rewriteCombineIntoGroupedMatmul(rewriter, combine);
  }
};

} // namespace

LogicalResult mlir::moe::rewriteDispatchAsPlan(RewriterBase &rewriter,
                                               DispatchOp dispatch) {
  return DispatchFusion(rewriter, dispatch).run();
}

void mlir::moe::populateFusionPatterns(RewritePatternSet &patterns) {
  patterns.add<FuseDispatch, FuseCombine>(patterns.getContext());
}

namespace {
struct FuseDispatchPass : moe::impl::MoEFuseDispatchBase<FuseDispatchPass> {
  void runOnOperation() override {
    SmallVector<DispatchOp> dispatches;
    getOperation()->walk(
        [&](DispatchOp dispatch) { dispatches.push_back(dispatch); });
    IRRewriter rewriter(&getContext());
    for (DispatchOp dispatch : dispatches)
      if (succeeded(rewriteDispatchAsPlan(rewriter, dispatch)))
        ++numFused;
  }
};
} // namespace
