//===- FuseRouting.cpp - The pass moe-fuse-routing ------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From a moe.plan back to the gate that made its ids, and from the gate back to
// the matmul that made its logits. Elementwise work on the way becomes the
// regions of the moe.route that stands where the gate stood.
//
//===----------------------------------------------------------------------===//

#include "ElementTracer.h"
#include "FusionRemarks.h"
#include "RouterMatmul.h"
#include "RouterNorms.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEROUTING
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// What the pass's remarks say first.
static constexpr StringLiteral kNotFused("routing is not fused");

namespace {

/// Builds at the end of a block that is in no operation yet.
OpBuilder atEnd(MLIRContext *context, Block &block) {
  OpBuilder builder(context);
  builder.setInsertionPointToEnd(&block);
  return builder;
}

/// A region of the new op, and what its arguments after the first stand for.
struct ScalarRegion {
  Region region;
  SmallVector<Value> extras;
  SmallVector<AffineMap> maps;
  /// Scalars from outside that it uses.
  SmallVector<Value> captured;
  /// The tensor operations that it stands for.
  SmallVector<Operation *> traced;

  /// Ends the region, with what `tracer` has found on the way.
  void finish(const ElementTracer &tracer, ArrayRef<Value> yielded) {
    Block &block = region.front();
    OpBuilder b = atEnd(yielded[0].getContext(), block);
    YieldOp::create(b, yielded[0].getLoc(), yielded);
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (isOpTriviallyDead(&op))
        op.erase();
    for (const ElementTracer::Extra &extra : tracer.getExtras()) {
      extras.push_back(extra.tensor);
      maps.push_back(extra.map);
    }
    llvm::append_range(captured, tracer.getCaptured());
    llvm::append_range(traced, tracer.getTraced());
  }
};

class RoutingFusion {
public:
  RoutingFusion(RewriterBase &rewriter, PlanOp plan)
      : rewriter(rewriter), plan(plan) {}

  FailureOr<RouteOp> run() {
    if (failed(matchGate()) || failed(matchLogits()) ||
        failed(checkOtherUses()))
      return failure();
    takeSizesFromInits();
    SmallVector<Value> needed(plan.getInits());
    for (Value operand : {plan.getCapacity(), plan.getTokensPerGroup()})
      if (operand)
        needed.push_back(operand);
    if (failed(hoist(needed)))
      return decline(plan, "what moe.plan needs is computed from the ids",
                     "compute its destinations and capacity before the gate");
    matchWeights();
    return build();
  }

private:
  RewriterBase &rewriter;
  PlanOp plan;
  GateOp gate;
  /// Set where the gate has scores that a softmax of the logits makes.
  std::optional<RouterSoftmax> softmax;
  /// Set where the weights are divided by their sum behind the gate.
  std::optional<RouterRenormalization> renormalization;
  RouterMatmul matmul;
  ScalarRegion logits, weights;
  /// What the fused op gives instead of the gate's weights.
  Value storedWeights;

  AffineExpr dim(RouteOp::Dim d) { return rewriter.getAffineDimExpr(d); }

  LogicalResult decline(Operation *at, const Twine &reason,
                        const Twine &advice = "") {
    remarkMissed(kRoutingRemark, plan, at->getLoc(), kNotFused, reason.str(),
                 advice.str());
    return rewriter.notifyMatchFailure(plan, reason);
  }

  //===--------------------------------------------------------------------===//
  // Matching
  //===--------------------------------------------------------------------===//

  LogicalResult matchGate() {
    if (!plan.hasPureTensorSemantics())
      return rewriter.notifyMatchFailure(plan, "works on memrefs");
    if (plan.getPriority())
      return decline(plan, "capacity goes by priority, which moe.route has not",
                     "drop by position (token_major or choice_major)");
    gate = plan.getIds().getDefiningOp<GateOp>();
    if (!gate)
      return decline(
          plan,
          "the ids are not those of one moe.gate but made by " +
              describe(plan.getIds()),
          "the plan and the grouped matmuls stay fused; choose with one "
          "moe.gate to fuse the router too");
    if (gate->getBlock() != plan->getBlock())
      return decline(gate, "gate and plan are in different blocks");
    return success();
  }

  static std::string describe(Value value) {
    Operation *op = value.getDefiningOp();
    return op ? "'" + op->getName().getStringRef().str() + "'"
              : "the caller (a block argument)";
  }

  /// The matmuls that reach `value` through elementwise work. `other` is the
  /// first operation found that ends a path and is none.
  static void findMatmuls(Value value, llvm::SetVector<Operation *> &matmuls,
                          DenseSet<Value> &seen, Value &other) {
    if (!seen.insert(value).second)
      return;
    Operation *op = value.getDefiningOp();
    if (op && isMatmulLike(op)) {
      matmuls.insert(op);
      return;
    }
    bool isLeaf = !op || isa<linalg::FillOp>(op) || !isTraceable(op);
    if (isLeaf && !other && (!op || !op->hasTrait<OpTrait::ConstantLike>()) &&
        cast<ShapedType>(value.getType()).getRank() == 2)
      other = value;
    if (isLeaf)
      return;
    for (Value operand : op->getOperands())
      if (isa<RankedTensorType>(operand.getType()))
        findMatmuls(operand, matmuls, seen, other);
  }

  Value getLogits() { return softmax ? softmax->logits : gate.getLogits(); }

  /// Finds the router's matmul, and the logits region from it.
  LogicalResult matchLogits() {
    llvm::SetVector<Operation *> matmuls;
    DenseSet<Value> seen;
    Value other;
    if (gate.getScore() == Score::None && !gate.getMix())
      softmax = matchRouterSoftmax(gate.getLogits());
    findMatmuls(getLogits(), matmuls, seen, other);
    if (matmuls.empty())
      return decline(gate,
                     "the logits come from " +
                         describe(other ? other : getLogits()) +
                         ", not elementwise from a matmul",
                     "leave scores and norms over experts to moe.gate's "
                     "attributes");
    // Results of other matmuls, of noise for instance, are extras like any
    // tensor.
    Operation *op = matmuls.front();
    if (op->getBlock() != gate->getBlock())
      return decline(op, "matmul and gate are in different blocks");
    std::string reason, advice;
    FailureOr<RouterMatmul> matched = matchRouterMatmul(op, reason, advice);
    if (failed(matched))
      return decline(op, reason, advice);
    matmul = *matched;
    return traceLogits();
  }

  LogicalResult traceLogits() {
    Block &block = logits.region.emplaceBlock();
    ElementTracer tracer(rewriter.getContext(), block, RouteOp::kNumDims);
    OpBuilder b = atEnd(rewriter.getContext(), block);
    ElementTracer::Index at = {dim(RouteOp::kToken), dim(RouteOp::kExpert)};
    Value sum = block.addArgument(b.getF32Type(), matmul.op.getLoc());
    // A matmul that starts from something else than zeros has it added after
    // the sum.
    FailureOr<Value> start = tracer.trace(matmul.getInit(), at);
    if (failed(start))
      return declineTraced(tracer);
    if (!matchPattern(*start, m_AnyZeroFloat()))
      sum = arith::AddFOp::create(b, matmul.op.getLoc(), sum, *start);
    tracer.addSource(matmul.getSums(), at, sum);
    SmallVector<Value> yielded;
    for (Value value : {getLogits(), gate.getMix()}) {
      if (!value)
        continue;
      FailureOr<Value> scalar = tracer.trace(value, at);
      if (failed(scalar))
        return declineTraced(tracer);
      yielded.push_back(*scalar);
    }
    logits.finish(tracer, yielded);
    if (softmax)
      llvm::append_range(logits.traced, softmax->ops);
    return success();
  }

  LogicalResult declineTraced(const ElementTracer &tracer) {
    Operation *op = tracer.getObstacle();
    std::string name = op ? op->getName().getStringRef().str() : "a value";
    return decline(op ? op : gate.getOperation(),
                   "'" + name + "' between matmul and gate " +
                       tracer.getReason(),
                   "leave scores and norms over experts to moe.gate's "
                   "attributes, and row-wise work to before the matmul");
  }

  /// Logits that somebody else reads would be computed twice, and in an order
  /// of additions of their own.
  LogicalResult checkOtherUses() {
    llvm::SmallPtrSet<Operation *, 8> own(logits.traced.begin(),
                                          logits.traced.end());
    own.insert(matmul.op);
    for (Operation *op : own)
      for (Operation *user : op->getUsers())
        if (user != gate && !own.contains(user) && !isa<tensor::DimOp>(user))
          return decline(user,
                         "'" + user->getName().getStringRef() +
                             "' reads the logits too, which moe.route does not "
                             "store",
                         "drop that result, or compute it from the ids and "
                         "weights");
    return success();
  }

  /// What the gate gives, or would give if it renormalized.
  Value getWeights() {
    return renormalization ? renormalization->shares : gate->getResult(0);
  }

  /// The longest chain of elementwise work on the weights that nothing else
  /// reads in between becomes the weights region.
  void matchWeights() {
    if (!gate.getRenormalizeAttr() && gate.getScale().isExactlyValue(1.0))
      renormalization = matchRouterRenormalization(gate->getResult(0));
    SmallVector<Value> chain = {getWeights()};
    while (true) {
      Operation *user = nullptr;
      for (Operation *next : chain.back().getUsers()) {
        if (user && next != user)
          break;
        user = next;
      }
      if (!user || !llvm::all_of(chain.back().getUsers(),
                                 [&](Operation *op) { return op == user; }))
        break;
      if (user->getBlock() != gate->getBlock() || !isTraceable(user) ||
          cast<RankedTensorType>(user->getResult(0).getType()).getRank() != 2)
        break;
      chain.push_back(user->getResult(0));
    }
    storedWeights = chain.front();
    for (Value value : llvm::reverse(ArrayRef(chain).drop_front()))
      if (succeeded(traceWeights(value))) {
        storedWeights = value;
        return;
      }
  }

  LogicalResult traceWeights(Value value) {
    Type stored = getElementTypeOrSelf(value);
    if (!stored.isF32() && !stored.isF16() && !stored.isBF16())
      return failure();
    ScalarRegion made;
    Block &block = made.region.emplaceBlock();
    ElementTracer tracer(rewriter.getContext(), block, RouteOp::kNumDims);
    ElementTracer::Index at = {dim(RouteOp::kToken), dim(RouteOp::kChoice)};
    Value weight = block.addArgument(rewriter.getF32Type(), gate.getLoc());
    tracer.addSource(getWeights(), at, weight);
    tracer.addIndexSource(gate->getResult(1), at, dim(RouteOp::kExpert));
    FailureOr<Value> scalar = tracer.trace(value, at);
    if (failed(scalar))
      return failure();
    made.finish(tracer, *scalar);
    SmallVector<Value> needed = made.extras;
    llvm::append_range(needed, made.captured);
    if (failed(hoist(needed)))
      return failure();
    weights.region.takeBody(made.region);
    weights.extras = made.extras;
    weights.maps = made.maps;
    weights.traced = made.traced;
    return success();
  }

  //===--------------------------------------------------------------------===//
  // Rewriting
  //===--------------------------------------------------------------------===//

  /// Sizes of the gate's results are those of its destinations, which are there
  /// before it.
  void takeSizesFromInits() {
    for (OpResult result : gate->getResults())
      for (Operation *user : llvm::make_early_inc_range(result.getUsers()))
        if (auto dimOp = dyn_cast<tensor::DimOp>(user))
          rewriter.modifyOpInPlace(dimOp, [&] {
            dimOp.getSourceMutable().set(
                gate.getInits()[result.getResultNumber()]);
          });
  }

  /// Collects what must move before the gate so that `value` dominates it.
  LogicalResult collect(Value value, llvm::SetVector<Operation *> &moved) {
    Operation *op = value.getDefiningOp();
    if (!op || op->getBlock() != gate->getBlock() ||
        op->isBeforeInBlock(gate) || moved.contains(op))
      return success();
    if (op == gate || !isPure(op))
      return failure();
    WalkResult result = op->walk([&](Operation *inner) {
      for (Value operand : inner->getOperands())
        if (!op->isAncestor(operand.getParentBlock()->getParentOp()) &&
            failed(collect(operand, moved)))
          return WalkResult::interrupt();
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return failure();
    moved.insert(op);
    return success();
  }

  /// Makes `values` available where the gate is; fails without a change.
  LogicalResult hoist(ArrayRef<Value> values) {
    llvm::SetVector<Operation *> moved;
    for (Value value : values)
      if (failed(collect(value, moved)))
        return failure();
    for (Operation *op : moved)
      rewriter.moveOpBefore(op, gate);
    return success();
  }

  Value buildWeightsInit() {
    Type stored = getElementTypeOrSelf(storedWeights);
    Value init = gate.getWeightsInit();
    if (stored.isF32())
      return init;
    return tensor::EmptyOp::create(
        rewriter, gate.getLoc(),
        tensor::getMixedSizes(rewriter, gate.getLoc(), init), stored);
  }

  ArrayAttr routerMaps() {
    auto mapOf = [&](RouteOp::Dim first, RouteOp::Dim second) {
      return AffineMap::get(RouteOp::kNumDims, 0, {dim(first), dim(second)},
                            rewriter.getContext());
    };
    using Op = RouteOp;
    return rewriter.getAffineMapArrayAttr(
        {mapOf(Op::kToken, Op::kSum), matmul.isExpertMajor
                                          ? mapOf(Op::kExpert, Op::kSum)
                                          : mapOf(Op::kSum, Op::kExpert)});
  }

  /// True if the region gives its first argument back and nothing else.
  static bool isIdentity(Region &region) {
    Block &block = region.front();
    Operation *yield = block.getTerminator();
    return yield->getNumOperands() == 1 && block.getNumArguments() == 1 &&
           yield->getOperand(0) == block.getArgument(0);
  }

  RouteOp build() {
    rewriter.setInsertionPoint(gate);
    SmallVector<Value> inits = {buildWeightsInit(), gate.getIdsInit()};
    llvm::append_range(inits, plan.getInits());
    auto route = RouteOp::create(
        rewriter, gate.getLoc(), TypeRange(inits), matmul.x, matmul.router,
        logits.extras, gate.getBias(), weights.extras, /*id_map=*/Value(),
        plan.getCapacity(), plan.getTokensPerGroup(), inits, routerMaps(),
        rewriter.getAffineMapArrayAttr(logits.maps),
        rewriter.getAffineMapArrayAttr(weights.maps),
        softmax ? Score::Softmax : gate.getScore(), gate.getSelectOn(),
        gate.getSoftmaxScope(), gate.getGroupsAttr(),
        renormalization ? renormalization->attr : gate.getRenormalizeAttr(),
        gate.getScale(), plan.getOrder());
    if (!isIdentity(logits.region))
      route.getLogits().takeBody(logits.region);
    if (!weights.region.empty())
      route.getWeights().takeBody(weights.region);
    route->setDiscardableAttrs(gate->getDiscardableAttrDictionary());
    replaceUses(route);
    return route;
  }

  void replaceUses(RouteOp route) {
    rewriter.replaceAllUsesWith(
        storedWeights, castTo(route->getResult(0), storedWeights.getType()));
    rewriter.replaceAllUsesWith(gate->getResult(1), route->getResult(1));
    rewriter.replaceOp(plan, route->getResults().drop_front(2));
    // What is left without a reader goes, users before their operands.
    SmallVector<Operation *> replaced = logits.traced;
    llvm::append_range(replaced, weights.traced);
    if (renormalization)
      llvm::append_range(replaced, renormalization->ops);
    replaced.append({gate, matmul.op});
    llvm::sort(replaced, [](Operation *a, Operation *b) {
      return b->isBeforeInBlock(a);
    });
    for (Operation *op : replaced)
      if (op->use_empty())
        rewriter.eraseOp(op);
  }

  /// `value` as `type`, which may know other sizes.
  Value castTo(Value value, Type type) {
    if (value.getType() == type)
      return value;
    return tensor::CastOp::create(rewriter, value.getLoc(), type, value);
  }
};

/// A plan of the ids of `dispatch`, with a source of as many rows.
PlanOp buildPlanOf(RewriterBase &rewriter, DispatchOp dispatch) {
  Location loc = dispatch.getLoc();
  rewriter.setInsertionPoint(dispatch);
  Value rows = dispatch.getRowInits()[0];
  Value source = tensor::EmptyOp::create(
      rewriter, loc, {tensor::getMixedSize(rewriter, loc, rows, 0)},
      rewriter.getI32Type());
  SmallVector<Value> inits = {dispatch.getOffsetsInit(),
                              dispatch.getSlotsInit(), source};
  return PlanOp::create(rewriter, loc, TypeRange(inits), dispatch.getIds(),
                        dispatch.getCapacity(), dispatch.getPriority(),
                        dispatch.getTokensPerGroup(), inits,
                        dispatch.getOrder());
}

struct FuseRoutingPass : moe::impl::MoEFuseRoutingBase<FuseRoutingPass> {
  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    // Plans first: a dispatch of the same ids then reads those of the route.
    fuseAll<PlanOp>(rewriter);
    fuseAll<DispatchOp>(rewriter);
  }

  template <typename OpTy>
  void fuseAll(IRRewriter &rewriter) {
    SmallVector<OpTy> ops;
    getOperation()->walk([&](OpTy op) { ops.push_back(op); });
    for (OpTy op : ops) {
      if (succeeded(fuseRouting(rewriter, op)))
        ++numFused;
      else
        ++numKept;
    }
  }
};

} // namespace

FailureOr<RouteOp> mlir::moe::fuseRouting(RewriterBase &rewriter, PlanOp plan) {
  return RoutingFusion(rewriter, plan).run();
}

FailureOr<RouteOp> mlir::moe::fuseRouting(RewriterBase &rewriter,
                                          DispatchOp dispatch) {
  if (!dispatch.hasPureTensorSemantics() || dispatch.getRowInits().empty() ||
      !dispatch.getIds().getDefiningOp<GateOp>())
    return rewriter.notifyMatchFailure(dispatch, "copies no rows of a gate");
  PlanOp plan = buildPlanOf(rewriter, dispatch);
  Operation *source = plan.getInits()[2].getDefiningOp();
  FailureOr<RouteOp> route = fuseRouting(rewriter, plan);
  if (failed(route)) {
    Value rows = source->getNumOperands() ? source->getOperand(0) : Value();
    rewriter.eraseOp(plan);
    rewriter.eraseOp(source);
    if (rows && rows.getDefiningOp<tensor::DimOp>() && rows.use_empty())
      rewriter.eraseOp(rows.getDefiningOp());
    return failure();
  }
  for (unsigned result : {0, 1})
    rewriter.replaceAllUsesWith(dispatch.getResult(result),
                                route->getResult(2 + result));
  return route;
}
