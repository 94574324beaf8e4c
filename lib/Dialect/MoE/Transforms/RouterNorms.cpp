//===- RouterNorms.cpp - Norms around a gate ------------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RouterNorms.h"

#include "ElementTracer.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;

/// A reduction of one matrix over its second dimension, in f32.
static bool reducesRows(linalg::LinalgOp op) {
  if (!op.hasPureTensorSemantics() || op.getNumDpsInputs() != 1 ||
      op.getNumDpsInits() != 1 || op.getNumLoops() != 2 ||
      op.getNumReductionLoops() != 1 ||
      !getElementTypeOrSelf(op->getResult(0)).isF32())
    return false;
  AffineMap in = op.getIndexingMapsArray()[0];
  AffineMap out = op.getIndexingMapsArray()[1];
  return in.isPermutation() && out.getNumResults() == 1 &&
         in.getResult(0) == out.getResult(0);
}

/// True if the body combines the input with what there is by one of `OpTys`.
template <typename... OpTys>
static bool combinesBy(linalg::LinalgOp op) {
  Block *body = op.getBlock();
  Operation *combiner = body->getTerminator()->getOperand(0).getDefiningOp();
  if (!isa_and_nonnull<OpTys...>(combiner))
    return false;
  Value lhs = combiner->getOperand(0), rhs = combiner->getOperand(1);
  Value in = body->getArgument(0), out = body->getArgument(1);
  return (lhs == in && rhs == out) || (lhs == out && rhs == in);
}

/// The scalar that all elements of `tensor` are, if it is a constant.
static std::optional<APFloat> constantOf(Value tensor) {
  APFloat value(0.0f);
  DenseElementsAttr elements;
  if (auto fill = tensor.getDefiningOp<linalg::FillOp>())
    tensor = fill.value();
  else if (auto splat = tensor.getDefiningOp<tensor::SplatOp>())
    tensor = splat.getInput();
  if (matchPattern(tensor, m_Constant(&elements)) && elements.isSplat())
    return elements.getSplatValue<APFloat>();
  if (matchPattern(tensor, m_ConstantFloat(&value)))
    return value;
  return std::nullopt;
}

static bool isSum(linalg::LinalgOp op) {
  std::optional<APFloat> start = constantOf(op.getDpsInits()[0]);
  return combinesBy<arith::AddFOp>(op) && start && start->isZero();
}

/// From −∞ or the lowest number there is, as frameworks write it.
static bool isMaximum(linalg::LinalgOp op) {
  std::optional<APFloat> start = constantOf(op.getDpsInits()[0]);
  return combinesBy<arith::MaximumFOp, arith::MaxNumFOp>(op) && start &&
         start->isNegative() && (start->isInfinity() || start->isLargest());
}

/// The first reduction of a kind that `value` is computed from elementwise.
static linalg::LinalgOp findReduction(Value value,
                                      bool (*isKind)(linalg::LinalgOp),
                                      DenseSet<Value> &seen) {
  Operation *op = value.getDefiningOp();
  if (!op || !seen.insert(value).second)
    return {};
  if (auto reduction = dyn_cast<linalg::LinalgOp>(op))
    if (reducesRows(reduction) && isKind(reduction))
      return reduction;
  if (!isTraceable(op))
    return {};
  for (Value operand : op->getOperands())
    if (linalg::LinalgOp found = findReduction(operand, isKind, seen))
      return found;
  return {};
}

/// exp(x − maximum)
static bool isExponential(Value value, Value x, Value maximum) {
  auto exp = value.getDefiningOp<math::ExpOp>();
  auto difference =
      exp ? exp.getOperand().getDefiningOp<arith::SubFOp>() : nullptr;
  return difference && difference.getLhs() == x &&
         difference.getRhs() == maximum;
}

static std::optional<RouterSoftmax> matchExplicit(Value scores) {
  DenseSet<Value> seen, seenBelow;
  linalg::LinalgOp sum = findReduction(scores, isSum, seen);
  if (!sum)
    return {};
  Value exponentials = sum.getDpsInputs()[0];
  linalg::LinalgOp maximum = findReduction(exponentials, isMaximum, seenBelow);
  if (!maximum)
    return {};
  Value logits = maximum.getDpsInputs()[0];
  Operation *source = logits.getDefiningOp();
  if (!source || source->getBlock() != sum->getBlock() ||
      source->getBlock() != maximum->getBlock())
    return {};

  // What an element is, in those of the logits, the maxima and the sums.
  MLIRContext *context = scores.getContext();
  Block block;
  ElementTracer tracer(context, block, RouteOp::kNumDims);
  ElementTracer::Index token = {getAffineDimExpr(RouteOp::kToken, context)};
  ElementTracer::Index at = {token[0],
                             getAffineDimExpr(RouteOp::kExpert, context)};
  auto addSource = [&](Value tensor, const ElementTracer::Index &index) {
    Value scalar =
        block.addArgument(Float32Type::get(context), tensor.getLoc());
    tracer.addSource(tensor, index, scalar);
    return scalar;
  };
  Value x = addSource(logits, at);
  Value largest = addSource(maximum->getResult(0), token);
  FailureOr<Value> summand = tracer.trace(exponentials, at);
  if (failed(summand) || !isExponential(*summand, x, largest))
    return {};
  Value total = addSource(sum->getResult(0), token);
  FailureOr<Value> score = tracer.trace(scores, at);
  auto quotient =
      succeeded(score) ? score->getDefiningOp<arith::DivFOp>() : nullptr;
  if (!quotient || quotient.getRhs() != total ||
      !isExponential(quotient.getLhs(), x, largest))
    return {};
  RouterSoftmax found{logits, {}};
  found.ops.insert_range(tracer.getTraced());
  found.ops.insert(sum);
  found.ops.insert(maximum);
  return found;
}

std::optional<RouterSoftmax> mlir::moe::matchRouterSoftmax(Value scores) {
  auto softmax = scores.getDefiningOp<linalg::SoftmaxOp>();
  if (!softmax)
    return matchExplicit(scores);
  auto type = dyn_cast<RankedTensorType>(softmax.getInput().getType());
  if (!type || type.getRank() != 2 || softmax.getDimension() != 1 ||
      !type.getElementType().isF32())
    return {};
  RouterSoftmax found{softmax.getInput(), {}};
  found.ops.insert(softmax);
  return found;
}

//===----------------------------------------------------------------------===//
// Renormalization
//===----------------------------------------------------------------------===//

/// The denominator as an attribute: `total` alone, with a constant added, or
/// at least a constant.
static RenormalizeAttr matchDenominator(Value denominator, Value total) {
  MLIRContext *context = total.getContext();
  if (denominator == total)
    return RenormalizeAttr::get(context, FloatAttr(), EpsMode::Add);
  Operation *op = denominator.getDefiningOp();
  if (!isa_and_nonnull<arith::AddFOp, arith::MaximumFOp, arith::MaxNumFOp>(op))
    return {};
  Value other;
  if (op->getOperand(0) == total)
    other = op->getOperand(1);
  else if (op->getOperand(1) == total)
    other = op->getOperand(0);
  FloatAttr eps;
  if (!other || !matchPattern(other, m_Constant(&eps)) ||
      !eps.getValue().isFinite() || eps.getValue().isNegative())
    return {};
  return RenormalizeAttr::get(
      context, eps, isa<arith::AddFOp>(op) ? EpsMode::Add : EpsMode::Clamp);
}

/// `value` as the shares of `weights` in `sum`, whoever else reads them.
static std::optional<RouterRenormalization>
matchShares(Value value, Value weights, linalg::LinalgOp sum) {
  MLIRContext *context = value.getContext();
  Block block;
  ElementTracer tracer(context, block, RouteOp::kNumDims);
  ElementTracer::Index token = {getAffineDimExpr(RouteOp::kToken, context)};
  ElementTracer::Index at = {token[0],
                             getAffineDimExpr(RouteOp::kChoice, context)};
  Type f32 = Float32Type::get(context);
  Value weight = block.addArgument(f32, weights.getLoc());
  Value total = block.addArgument(f32, sum.getLoc());
  tracer.addSource(weights, at, weight);
  tracer.addSource(sum->getResult(0), token, total);
  FailureOr<Value> scalar = tracer.trace(value, at);
  auto quotient =
      succeeded(scalar) ? scalar->getDefiningOp<arith::DivFOp>() : nullptr;
  if (!quotient || quotient.getLhs() != weight)
    return {};
  RenormalizeAttr attr = matchDenominator(quotient.getRhs(), total);
  if (!attr)
    return {};
  RouterRenormalization found{value, attr, {}};
  found.ops.insert_range(tracer.getTraced());
  found.ops.insert(sum);
  return found;
}

/// Whether nothing but its own operations reads what leads to the shares.
static bool isAlone(const RouterRenormalization &found, Value weights) {
  auto isOwn = [&](Operation *user) { return found.ops.contains(user); };
  return llvm::all_of(weights.getUsers(), isOwn) &&
         llvm::all_of(found.ops, [&](Operation *op) {
           return op->getResult(0) == found.shares ||
                  llvm::all_of(op->getUsers(), isOwn);
         });
}

std::optional<RouterRenormalization>
mlir::moe::matchRouterRenormalization(Value weights) {
  linalg::LinalgOp sum;
  for (Operation *user : weights.getUsers())
    if (auto reduction = dyn_cast<linalg::LinalgOp>(user))
      if (reducesRows(reduction) && isSum(reduction) &&
          reduction.getDpsInputs()[0] == weights)
        sum = reduction;
  if (!sum || sum->getBlock() != weights.getParentBlock())
    return {};
  // Elementwise work on the sum, up to the first quotient.
  llvm::SetVector<Value> reached;
  reached.insert(sum->getResult(0));
  for (unsigned i = 0; i < reached.size(); ++i) {
    Value value = reached[i];
    auto type = cast<RankedTensorType>(value.getType());
    if (type.getRank() == 2 && type.getElementType().isF32())
      if (auto found = matchShares(value, weights, sum))
        return isAlone(*found, weights) ? found : std::nullopt;
    for (Operation *user : value.getUsers())
      if (user->getBlock() == sum->getBlock() && isTraceable(user))
        reached.insert(user->getResult(0));
  }
  return {};
}
