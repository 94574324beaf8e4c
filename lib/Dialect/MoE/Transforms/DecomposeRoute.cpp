//===- DecomposeRoute.cpp - moe.route in upstream dialects ----------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the op is made of, one after the other: linalg.matmul, the region of the
// logits, moe.gate, the region of the weights, the map of the ids, moe.plan.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Transforms/SplitRoute.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class RouteBuilder {
public:
  /// `keepsOps`: leaves moe.gate and moe.plan as they are.
  RouteBuilder(OpBuilder &builder, RouteOp op, bool keepsOps)
      : b(builder), op(op), loc(op.getLoc()), keepsOps(keepsOps),
        f32(builder.getF32Type()) {
    zero = buildIndex(b, loc, 0);
    numTokens = tensor::DimOp::create(b, loc, op.getX(), 0);
    numExperts = tensor::DimOp::create(b, loc, op.getRouter(),
                                       op.isExpertMajor() ? 0 : 1);
    topK = tensor::DimOp::create(b, loc, op.getIdsInit(), 1);
  }

  /// `logits`, and the mix where the region yields one; none to build them.
  SmallVector<Value> build(SmallVector<Value> logits = {}) {
    if (logits.empty())
      logits = buildLogits();
    SmallVector<Value> chosen = buildGate(logits);
    Value weights = buildWeights(chosen[0], chosen[1]);
    Value ids = mapIds(chosen[1]);
    SmallVector<Value> values = {weights, ids};
    llvm::append_range(values, buildPlan(ids));
    return values;
  }

private:
  OpBuilder &b;
  RouteOp op;
  Location loc;
  bool keepsOps;
  Type f32;
  Value zero, numTokens, numExperts, topK;

  Value emptyLogits() {
    int64_t shape[] = {op.getNumTokens(), op.getNumRouterExperts()};
    SmallVector<OpFoldResult> sizes = {
        tensor::getMixedSize(b, loc, op.getX(), 0),
        ShapedType::isDynamic(shape[1]) ? getAsOpFoldResult(numExperts)
                                        : b.getIndexAttr(shape[1])};
    return tensor::EmptyOp::create(b, loc, sizes, f32);
  }

  Value emptyLike(Value tensor, Type elementType) {
    return tensor::EmptyOp::create(
        b, loc, tensor::getMixedSizes(b, loc, tensor), elementType);
  }

  /// Σ_k x[t, k] · router[e, k] in f32.
  Value buildSums() {
    Value filled = linalg::FillOp::create(b, loc, buildFloat(b, loc, f32, 0.0),
                                          emptyLogits())
                       .getResult(0);
    AffineExpr t, e, k;
    bindDims(b.getContext(), t, e, k);
    auto mapOf = [&](ArrayRef<AffineExpr> exprs) {
      return AffineMap::get(3, 0, exprs, b.getContext());
    };
    SmallVector<AffineMap> maps = {
        mapOf({t, k}), op.isExpertMajor() ? mapOf({e, k}) : mapOf({k, e}),
        mapOf({t, e})};
    using utils::IteratorType;
    SmallVector<IteratorType> iterators = {IteratorType::parallel,
                                           IteratorType::parallel,
                                           IteratorType::reduction};
    return linalg::GenericOp::create(
               b, loc, filled.getType(), ValueRange{op.getX(), op.getRouter()},
               filled, maps, iterators,
               [&](OpBuilder &b, Location, ValueRange args) {
                 Value product = arith::MulFOp::create(
                     b, loc, buildExtensionToF32(b, loc, args[0]),
                     buildExtensionToF32(b, loc, args[1]));
                 linalg::YieldOp::create(
                     b, loc,
                     arith::AddFOp::create(b, loc, args[2], product)
                         .getResult());
               })
        .getResult(0);
  }

  /// The logits, and the mix where the region yields one.
  SmallVector<Value> buildLogits() {
    Value sums = buildSums();
    Region &region = op.getLogits();
    if (region.empty())
      return {sums};
    SmallVector<Value> inits = {emptyLogits()};
    if (op.hasMix())
      inits.push_back(emptyLogits());
    return buildElementwise(
        numExperts, inits, [&](OpBuilder &b, Value t, Value e) {
          SmallVector<Value> args = {extract(b, sums, {t, e})};
          readExtras(b, op.getExtras(), op.getExtraMaps(), {t, e, zero, zero},
                     args);
          return inlineRegion(b, region, args);
        });
  }

  /// Weights (f32) and router ids of the gate.
  SmallVector<Value> buildGate(ValueRange logits) {
    // What is mapped afterwards gets a place of its own.
    bool maps = !op.getWeights().empty();
    SmallVector<Value> inits = {
        maps ? emptyLike(op.getWeightsInit(), f32) : op.getWeightsInit(),
        op.getIdMap() ? emptyLike(op.getIdsInit(), b.getI32Type())
                      : op.getIdsInit()};
    auto gate = GateOp::create(
        b, loc, TypeRange(inits), logits[0], op.getBias(),
        logits.size() > 1 ? logits[1] : Value(), inits, op.getScore(),
        op.getSelectOn(), op.getSoftmaxScope(), op.getGroupsAttr(),
        op.getRenormalizeAttr(), op.getScale());
    return replaced(gate, decomposeGate);
  }

  Value buildWeights(Value weights, Value ids) {
    Region &region = op.getWeights();
    if (region.empty())
      return weights;
    return buildElementwise(
        topK, op.getWeightsInit(), [&](OpBuilder &b, Value t, Value j) {
          SmallVector<Value> args = {extract(b, weights, {t, j})};
          Value expert = toAddress(b, extract(b, ids, {t, j}));
          readExtras(b, op.getWeightExtras(), op.getWeightExtraMaps(),
                     {t, expert, j, zero}, args);
          return inlineRegion(b, region, args);
        })[0];
  }

  Value mapIds(Value ids) {
    if (!op.getIdMap())
      return ids;
    return buildElementwise(
        topK, op.getIdsInit(), [&](OpBuilder &b, Value t, Value j) -> Carried {
          Value expert = toAddress(b, extract(b, ids, {t, j}));
          return {extract(b, op.getIdMap(), expert)};
        })[0];
  }

  SmallVector<Value> buildPlan(Value ids) {
    SmallVector<Value> inits(op.getInits().drop_front(2));
    auto plan = PlanOp::create(b, loc, TypeRange(inits), ids, op.getCapacity(),
                               /*priority=*/Value(), op.getTokensPerGroup(),
                               inits, op.getOrder());
    return replaced(plan, decomposePlan);
  }

  /// What `inner` decomposes into, and goes; its results if ops are kept.
  template <typename OpTy>
  SmallVector<Value>
  replaced(OpTy inner, SmallVector<Value> (*decompose)(OpBuilder &, OpTy)) {
    if (keepsOps)
      return inner->getResults();
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(inner);
    SmallVector<Value> values = decompose(b, inner);
    inner->erase();
    return values;
  }

  /// Fills `inits`, T×`width`, with what `element` makes of each position.
  Carried
  buildElementwise(Value width, ValueRange inits,
                   function_ref<Carried(OpBuilder &, Value, Value)> element) {
    return buildFor(
        b, loc, zero, numTokens, inits,
        [&](OpBuilder &b, Location, Value t, ValueRange rows) {
          return buildFor(
              b, loc, zero, width, rows,
              [&](OpBuilder &b, Location, Value i, ValueRange outs) {
                Carried next;
                for (auto [scalar, out] : llvm::zip(element(b, t, i), outs))
                  next.push_back(tensor::InsertOp::create(b, loc, scalar, out,
                                                          ValueRange{t, i}));
                return next;
              });
        });
  }

  Value extract(OpBuilder &b, Value tensor, ValueRange at) {
    return tensor::ExtractOp::create(b, loc, tensor, at);
  }

  /// A router id as an index. k > E leaves an id of −1; it must not become an
  /// address.
  Value toAddress(OpBuilder &b, Value id) {
    Value clamped = arith::MaxSIOp::create(b, loc, id, buildI32(b, loc, 0));
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), clamped);
  }

  /// Appends the element of each extra that its map names at `indices`.
  void readExtras(OpBuilder &b, OperandRange extras, ArrayAttr maps,
                  ArrayRef<Value> indices, SmallVectorImpl<Value> &elements) {
    for (auto [extra, map] :
         llvm::zip(extras, maps.getAsValueRange<AffineMapAttr>()))
      elements.push_back(buildRead(b, loc, extra, map, indices));
  }
};

} // namespace

SmallVector<Value> mlir::moe::decomposeRoute(OpBuilder &builder, RouteOp op) {
  return RouteBuilder(builder, op, /*keepsOps=*/false).build();
}

SmallVector<Value> mlir::moe::splitRoute(OpBuilder &builder, RouteOp op,
                                         ValueRange logits) {
  return RouteBuilder(builder, op, /*keepsOps=*/true)
      .build(SmallVector<Value>(logits));
}
