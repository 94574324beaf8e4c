//===- MoECanonicalization.cpp - Canonical forms of moe ops -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A tensor.cast that feeds an op is folded by the tensor dialect's own pattern
// for destination-style ops; what is here follows up on it (inits and body
// arguments take the sharper types).
//
//===----------------------------------------------------------------------===//

#include "Verification.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Static shapes from operands
//===----------------------------------------------------------------------===//

/// `type` with the sizes of `known` where its own are dynamic.
static RankedTensorType sharpen(RankedTensorType type,
                                ArrayRef<int64_t> known) {
  SmallVector<int64_t> shape(type.getShape());
  for (auto [size, knownSize] : llvm::zip(shape, known))
    if (ShapedType::isDynamic(size))
      size = knownSize;
  return type.clone(shape);
}

/// Casts init `i` to the shape `known[i]` (with the op's tied result cast back)
/// wherever that is more static than what it has.
static LogicalResult sharpenInits(PatternRewriter &rewriter,
                                  DestinationStyleOpInterface op,
                                  ArrayRef<SmallVector<int64_t>> known) {
  bool changed = false;
  for (auto [i, shape] : llvm::enumerate(known)) {
    OpOperand *init = op.getDpsInitOperand(i);
    auto type = cast<RankedTensorType>(init->get().getType());
    RankedTensorType sharper = sharpen(type, shape);
    if (sharper == type)
      continue;
    changed = true;
    OpResult result = op.getTiedOpResult(init);
    OpBuilder::InsertionGuard guard(rewriter);
    rewriter.setInsertionPoint(op);
    Value cast =
        tensor::CastOp::create(rewriter, op.getLoc(), sharper, init->get());
    rewriter.modifyOpInPlace(op, [&] {
      init->set(cast);
      result.setType(sharper);
    });
    rewriter.setInsertionPointAfter(op);
    auto back = tensor::CastOp::create(rewriter, op.getLoc(), type, result);
    rewriter.replaceAllUsesExcept(result, back, back);
  }
  return success(changed);
}

/// The sizes each init must have, as far as the operands tell.
static SmallVector<SmallVector<int64_t>> knownInitShapes(GateOp op) {
  SmallVector<int64_t> choices = {op.getNumTokens(), op.getTopK()};
  return {choices, choices};
}

static SmallVector<SmallVector<int64_t>> knownInitShapes(DispatchOp op) {
  SmallVector<SmallVector<int64_t>> known;
  known.emplace_back(shapeOf(op.getOffsetsInit()));
  known.emplace_back(shapeOf(op.getIds()));
  int64_t numRows = ShapedType::kDynamic;
  for (Value init : op.getRowInits())
    if (!ShapedType::isDynamic(shapeOf(init)[0]))
      numRows = shapeOf(init)[0];
  for (auto [i, payload] : llvm::enumerate(op.getPayloads())) {
    SmallVector<int64_t> rows = {numRows};
    llvm::append_range(
        rows, shapeOf(payload).drop_front(i < op.getTokens().size() ? 1 : 2));
    known.push_back(rows);
  }
  return known;
}

static SmallVector<SmallVector<int64_t>> knownInitShapes(PlanOp op) {
  SmallVector<SmallVector<int64_t>> known;
  known.emplace_back(shapeOf(op.getOffsetsInit()));
  known.emplace_back(shapeOf(op.getIds()));
  known.emplace_back(shapeOf(op.getSourceInit()));
  return known;
}

static SmallVector<SmallVector<int64_t>> knownInitShapes(ExpertOp op) {
  int64_t numRows = ShapedType::kDynamic;
  for (Value row : op.getRows())
    if (!ShapedType::isDynamic(shapeOf(row)[0]))
      numRows = shapeOf(row)[0];
  SmallVector<SmallVector<int64_t>> known;
  for (auto [i, init] : llvm::enumerate(op.getInits())) {
    ArrayRef<int64_t> yielded = shapeOf(op.getYieldOp().getValues()[i]);
    bool isRow = op.isRowInit(i);
    known.push_back({isRow ? numRows : op.getNumExperts()});
    llvm::append_range(known.back(), isRow ? yielded.drop_front() : yielded);
  }
  return known;
}

static SmallVector<SmallVector<int64_t>> knownInitShapes(CombineOp op) {
  return {{shapeOf(op.getSlots())[0], shapeOf(op.getRows())[1]}};
}

static SmallVector<SmallVector<int64_t>> knownInitShapes(GroupedMatmulOp op) {
  int64_t numRows =
      op.isCombining() ? shapeOf(op.getSlots())[0] : op.getNumRows();
  return SmallVector<SmallVector<int64_t>>(op.getInits().size(),
                                           {numRows, op.getNumColumns()});
}

static SmallVector<SmallVector<int64_t>> knownInitShapes(RouteOp op) {
  SmallVector<int64_t> choices = {op.getNumTokens(), op.getTopK()};
  return {choices, choices, SmallVector<int64_t>(shapeOf(op.getOffsetsInit())),
          choices, SmallVector<int64_t>(shapeOf(op.getSourceInit()))};
}

namespace {
/// tensor<?x8xi32> as the destination of ids of a gate over tensor<16x64xf32>
/// becomes tensor<16x8xi32>.
template <typename OpTy>
struct SharpenInits : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op,
                                PatternRewriter &rewriter) const override {
    if (!op.hasPureTensorSemantics())
      return rewriter.notifyMatchFailure(op, "works on memrefs");
    return sharpenInits(rewriter, op, knownInitShapes(op));
  }
};

/// Operands take the static sizes of what is cast to them. The tensor dialect's
/// pattern for destination-style ops does the same by cloning the op, which
/// crashes upstream on an empty region, such as that of a weight that is not
/// decoded; with a higher benefit, this one leaves nothing for it to fold.
template <typename OpTy>
struct FoldCastsInPlace : OpRewritePattern<OpTy> {
  explicit FoldCastsInPlace(MLIRContext *context)
      : OpRewritePattern<OpTy>(context, /*benefit=*/2) {}
  LogicalResult matchAndRewrite(OpTy op,
                                PatternRewriter &rewriter) const override {
    if (!tensor::hasFoldableTensorCastOperand(op))
      return rewriter.notifyMatchFailure(op, "no operand is cast");
    SmallVector<Type> sharper(op->getResultTypes());
    SmallVector<Value> operands =
        tensor::getUpdatedOperandsAfterCastOpFolding(op, sharper);
    SmallVector<Type> types(op->getResultTypes());
    rewriter.modifyOpInPlace(op, [&] {
      op->setOperands(operands);
      for (auto [result, type] : llvm::zip(op->getResults(), sharper))
        result.setType(type);
    });
    rewriter.setInsertionPointAfter(op);
    for (auto [result, type] : llvm::zip(op->getResults(), types)) {
      if (result.getType() == type)
        continue;
      auto back = tensor::CastOp::create(rewriter, op.getLoc(), type, result);
      rewriter.replaceAllUsesExcept(result, back, back);
    }
    return success();
  }
};

/// A body argument takes the static sizes of its operand.
struct SharpenBodyArgs : OpRewritePattern<ExpertOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ExpertOp op,
                                PatternRewriter &rewriter) const override {
    bool changed = false;
    auto sharpenArg = [&](BlockArgument arg, SmallVector<int64_t> known) {
      auto type = cast<RankedTensorType>(arg.getType());
      RankedTensorType sharper = sharpen(type, known);
      if (sharper == type)
        return;
      changed = true;
      rewriter.modifyOpInPlace(op, [&] { arg.setType(sharper); });
      rewriter.setInsertionPointToStart(&op.getBody().front());
      auto back = tensor::CastOp::create(rewriter, op.getLoc(), type, arg);
      rewriter.replaceAllUsesExcept(arg, back, back);
    };
    for (auto [arg, row] : llvm::zip(op.getRowArgs(), op.getRows())) {
      SmallVector<int64_t> known(shapeOf(row));
      known[0] = ShapedType::kDynamic;
      sharpenArg(arg, known);
    }
    for (auto [arg, param] : llvm::zip(op.getParamArgs(), op.getParams()))
      sharpenArg(arg, SmallVector<int64_t>(shapeOf(param).drop_front()));
    return success(changed);
  }
};

/// The same on the way out: a cast that hides sizes right before the yield
/// goes, so that the destination can take them.
struct FoldCastsIntoYield : OpRewritePattern<YieldOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(YieldOp yield,
                                PatternRewriter &rewriter) const override {
    auto op = dyn_cast<ExpertOp>(yield->getParentOp());
    if (!op)
      return rewriter.notifyMatchFailure(yield, "yields scalars");
    bool changed = false;
    for (OpOperand &operand : yield->getOpOperands()) {
      auto castOp = operand.get().getDefiningOp<tensor::CastOp>();
      if (!castOp || !tensor::canFoldIntoConsumerOp(castOp))
        continue;
      unsigned i = operand.getOperandNumber();
      auto type = cast<RankedTensorType>(castOp.getSource().getType());
      ArrayRef<int64_t> inner = shapeOf(op.getInits()[i]).drop_front();
      bool isRow = op.isRowInit(i);
      if ((isRow && !type.isDynamicDim(0)) || // expert_c7
          failed(
              verifyCompatibleShape(type.getShape().drop_front(isRow), inner)))
        continue;
      rewriter.modifyOpInPlace(yield, [&] { operand.set(castOp.getSource()); });
      changed = true;
    }
    return success(changed);
  }
};

//===----------------------------------------------------------------------===//
// Attributes and operands without effect
//===----------------------------------------------------------------------===//

/// Keeping all groups is no limit. Frontends print n_group = topk_group = 1
/// for Kimi K2 and GLM-4.5.
template <typename OpTy>
struct DropGroupsThatKeepAll : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op,
                                PatternRewriter &rewriter) const override {
    GroupsAttr groups = op.getGroupsAttr();
    if (!groups || groups.getKeep() != groups.getCount())
      return rewriter.notifyMatchFailure(op, "has no groups, or drops some");
    rewriter.modifyOpInPlace(op, [&] { op.removeGroupsAttr(); });
    return success();
  }
};

/// score + 0 is the score. Checkpoints that were never balanced, and exporters
/// that always emit the operand, have such a bias.
template <typename OpTy>
struct DropZeroBias : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op,
                                PatternRewriter &rewriter) const override {
    if (!op.getBias() || !matchPattern(op.getBias(), m_AnyZeroFloat()))
      return rewriter.notifyMatchFailure(op, "has no bias of zeros");
    rewriter.modifyOpInPlace(op, [&] { op.getBiasMutable().clear(); });
    return success();
  }
};

/// A capacity of T·k or more drops nothing: a capacity factor that was turned
/// off, or a specialization for few tokens.
template <typename OpTy>
struct DropAmpleCapacity : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op,
                                PatternRewriter &rewriter) const override {
    auto idsType = cast<ShapedType>(op.getIds().getType());
    APInt capacity;
    if (!op.getCapacity() || !idsType.hasStaticShape() ||
        !matchPattern(op.getCapacity(), m_ConstantInt(&capacity)))
      return rewriter.notifyMatchFailure(op, "capacity or T·k is not constant");
    if (capacity.slt(idsType.getNumElements()))
      return rewriter.notifyMatchFailure(op, "capacity may drop choices");
    rewriter.modifyOpInPlace(op, [&] {
      op.getCapacityMutable().clear();
      op.getPriorityMutable().clear();
      op.getTokensPerGroupMutable().clear();
      op.setOrder(CapacityOrder::TokenMajor);
    });
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Unused payloads, results and arguments
//===----------------------------------------------------------------------===//

/// A row value that nobody reads need not be gathered.
struct DropUnusedPayloads : OpRewritePattern<DispatchOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(DispatchOp op,
                                PatternRewriter &rewriter) const override {
    if (!op.hasPureTensorSemantics())
      return rewriter.notifyMatchFailure(op, "works on memrefs");
    SmallVector<Value> tokens, choices, inits(op.getInits().take_front(2));
    SmallVector<unsigned> keptResults = {0, 1};
    for (auto [i, payload] : llvm::enumerate(op.getPayloads())) {
      if (op.getResult(2 + i).use_empty())
        continue;
      (i < op.getTokens().size() ? tokens : choices).push_back(payload);
      inits.push_back(op.getRowInits()[i]);
      keptResults.push_back(2 + i);
    }
    if (inits.size() == op.getInits().size())
      return rewriter.notifyMatchFailure(op, "all payloads are used");
    auto slim = DispatchOp::create(
        rewriter, op.getLoc(), TypeRange(inits), op.getIds(), tokens, choices,
        op.getCapacity(), op.getPriority(), op.getTokensPerGroup(), inits,
        op.getOrder(), op.getInBounds());
    slim->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    SmallVector<Value> replacements(op.getNumResults());
    for (auto [slimResult, index] : llvm::zip(slim.getResults(), keptResults))
      replacements[index] = slimResult;
    // Unused results have no uses to replace; any value of their type will do.
    for (auto [i, value] : llvm::enumerate(replacements))
      if (!value)
        value = op.getInits()[i];
    rewriter.replaceOp(op, replacements);
    return success();
  }
};

/// Replaces `op` by one with the given operands, its body moved over with
/// `keptArgs` as arguments, and results at `keptResults`.
ExpertOp rebuildExpert(PatternRewriter &rewriter, ExpertOp op, ValueRange rows,
                       ValueRange params, ValueRange inits,
                       ArrayRef<unsigned> keptResults,
                       const llvm::BitVector &droppedArgs) {
  auto slim = ExpertOp::create(rewriter, op.getLoc(), TypeRange(inits),
                               op.getOffsets(), rows, params, inits);
  slim->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  YieldOp yield = op.getYieldOp();
  SmallVector<Value> yielded;
  for (unsigned index : keptResults)
    yielded.push_back(yield.getValues()[index]);
  rewriter.modifyOpInPlace(yield,
                           [&] { yield.getValuesMutable().assign(yielded); });
  rewriter.modifyOpInPlace(
      op, [&] { op.getBody().front().eraseArguments(droppedArgs); });
  rewriter.inlineRegionBefore(op.getBody(), slim.getBody(),
                              slim.getBody().end());
  SmallVector<Value> replacements(op.getInits());
  for (auto [slimResult, index] : llvm::zip(slim.getResults(), keptResults))
    replacements[index] = slimResult;
  rewriter.replaceOp(op, replacements);
  return slim;
}

/// A result that nobody reads need not be computed.
struct DropUnusedExpertResults : OpRewritePattern<ExpertOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ExpertOp op,
                                PatternRewriter &rewriter) const override {
    SmallVector<Value> inits;
    SmallVector<unsigned> keptResults;
    for (OpResult result : op->getResults()) {
      if (result.use_empty())
        continue;
      keptResults.push_back(result.getResultNumber());
      inits.push_back(op.getInits()[result.getResultNumber()]);
    }
    if (inits.empty() || inits.size() == op.getInits().size())
      return rewriter.notifyMatchFailure(op, "all results are used, or none");
    rebuildExpert(rewriter, op, op.getRows(), op.getParams(), inits,
                  keptResults, llvm::BitVector(op.getBody().getNumArguments()));
    return success();
  }
};

/// An operand that the body does not use, or has already, goes. Frontends pass
/// all weights of a layer to each of its ops.
struct DropRedundantExpertArgs : OpRewritePattern<ExpertOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ExpertOp op,
                                PatternRewriter &rewriter) const override {
    llvm::BitVector dropped(op.getBody().getNumArguments());
    auto keep = [&](auto args, ValueRange operands) {
      // Merge first: an argument may get its only use from a later one.
      DenseMap<Value, BlockArgument> first;
      for (auto [arg, operand] : llvm::zip(args, operands)) {
        BlockArgument same = first.try_emplace(operand, arg).first->second;
        if (same != arg && same.getType() == arg.getType())
          rewriter.replaceAllUsesWith(arg, same);
      }
      SmallVector<Value> kept;
      for (auto [arg, operand] : llvm::zip(args, operands)) {
        if (arg.use_empty())
          dropped.set(arg.getArgNumber());
        else
          kept.push_back(operand);
      }
      return kept;
    };
    SmallVector<Value> rows = keep(op.getRowArgs(), op.getRows());
    SmallVector<Value> params = keep(op.getParamArgs(), op.getParams());
    if (dropped.none())
      return rewriter.notifyMatchFailure(op, "all arguments are used");
    auto keptResults =
        llvm::to_vector(llvm::seq<unsigned>(0, op.getInits().size()));
    rebuildExpert(rewriter, op, rows, params, SmallVector<Value>(op.getInits()),
                  keptResults, dropped);
    return success();
  }
};

/// No rows at all (M = 0, E = 0, or constant offsets that are all equal): the
/// region never runs. Such experts are left over when a host specializes a
/// layer for an empty batch or for a rank that holds no expert.
struct FoldDeadExperts : OpRewritePattern<ExpertOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ExpertOp op,
                                PatternRewriter &rewriter) const override {
    DenseIntElementsAttr offsets;
    bool dead = op.getNumExperts() == 0 ||
                (matchPattern(op.getOffsets(), m_Constant(&offsets)) &&
                 offsets.isSplat());
    for (Value row : op.getRows())
      dead |= shapeOf(row)[0] == 0;
    for (auto [i, init] : llvm::enumerate(op.getInits()))
      dead |= op.isRowInit(i) && shapeOf(init)[0] == 0;
    if (!dead)
      return rewriter.notifyMatchFailure(op, "may have rows");
    rewriter.replaceOp(op, op.getInits());
    return success();
  }
};
} // namespace

void GateOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                         MLIRContext *context) {
  patterns.add<SharpenInits<GateOp>, DropGroupsThatKeepAll<GateOp>,
               DropZeroBias<GateOp>>(context);
}

void DispatchOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                             MLIRContext *context) {
  patterns.add<SharpenInits<DispatchOp>, DropAmpleCapacity<DispatchOp>,
               DropUnusedPayloads>(context);
}

void ExpertOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                           MLIRContext *context) {
  patterns.add<SharpenInits<ExpertOp>, SharpenBodyArgs, DropUnusedExpertResults,
               DropRedundantExpertArgs, FoldDeadExperts>(context);
}

void YieldOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *context) {
  patterns.add<FoldCastsIntoYield>(context);
}

void CombineOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                            MLIRContext *context) {
  patterns.add<SharpenInits<CombineOp>>(context);
}

void PlanOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                         MLIRContext *context) {
  patterns.add<SharpenInits<PlanOp>, DropAmpleCapacity<PlanOp>>(context);
}

void GroupedMatmulOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                                  MLIRContext *context) {
  patterns
      .add<SharpenInits<GroupedMatmulOp>, FoldCastsInPlace<GroupedMatmulOp>>(
          context);
}

void RouteOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                          MLIRContext *context) {
  patterns.add<SharpenInits<RouteOp>, FoldCastsInPlace<RouteOp>,
               DropGroupsThatKeepAll<RouteOp>, DropZeroBias<RouteOp>>(context);
}
