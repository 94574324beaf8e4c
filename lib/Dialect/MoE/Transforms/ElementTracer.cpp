//===- ElementTracer.cpp - Elementwise tensor code as scalars -------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ElementTracer.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

/// All loops parallel, and each result element made by one iteration.
static bool isParallel(linalg::LinalgOp op) {
  return op.hasPureTensorSemantics() &&
         op.getNumParallelLoops() == op.getNumLoops() &&
         llvm::all_of(op.getDpsInitsMutable(), [&](OpOperand &init) {
           return op.getMatchingIndexingMap(&init).isPermutation();
         });
}

static bool isElementwise(Operation *op) {
  return OpTrait::hasElementwiseMappableTraits(op) &&
         op->getNumResults() == 1 && op->getNumRegions() == 0 &&
         isa<RankedTensorType>(op->getResult(0).getType());
}

bool mlir::moe::isTraceable(Operation *op) {
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op))
    return isParallel(linalgOp) && op->getNumResults() == 1;
  return isElementwise(op) || isa<tensor::CastOp>(op);
}

/// The input that a linalg operation moves to its result as it is; null if it
/// computes something.
static OpOperand *getMovedInput(linalg::LinalgOp op) {
  if (!isTraceable(op) || isa<linalg::FillOp>(op))
    return nullptr;
  auto arg =
      dyn_cast<BlockArgument>(op.getBlock()->getTerminator()->getOperand(0));
  if (!arg || arg.getOwner() != op.getBlock() ||
      arg.getArgNumber() >= static_cast<unsigned>(op.getNumDpsInputs()))
    return nullptr;
  return op.getDpsInputOperand(arg.getArgNumber());
}

/// The loops of `op` where element `at` of result `result` is made.
static ElementTracer::Index loopsAt(linalg::LinalgOp op, unsigned result,
                                    ArrayRef<AffineExpr> at) {
  AffineMap map = op.getMatchingIndexingMap(op.getDpsInitOperand(result));
  ElementTracer::Index loops(op.getNumLoops());
  for (auto [expr, value] : llvm::zip(map.getResults(), at))
    loops[cast<AffineDimExpr>(expr).getPosition()] = value;
  return loops;
}

/// Where `operand` is read in an iteration.
static ElementTracer::Index indexOf(linalg::LinalgOp op, OpOperand &operand,
                                    ArrayRef<AffineExpr> loops) {
  ElementTracer::Index index;
  for (AffineExpr expr : op.getMatchingIndexingMap(&operand).getResults())
    index.push_back(expr.replaceDimsAndSymbols(loops, {}));
  return index;
}

ElementTracer::ElementTracer(MLIRContext *context, Block &body,
                             unsigned numDims)
    : body(body), builder(context), numDims(numDims) {
  builder.setInsertionPointToEnd(&body);
}

void ElementTracer::addSource(Value tensor, Index at, Value scalar) {
  sources[tensor] = {std::move(at), scalar};
  noteSource(tensor.getDefiningOp());
}

void ElementTracer::addIndexSource(Value tensor, Index at, AffineExpr index) {
  indexSources[tensor] = {std::move(at), index};
  noteSource(tensor.getDefiningOp());
}

void ElementTracer::noteSource(Operation *op) {
  if (!firstSource || op->isBeforeInBlock(firstSource))
    firstSource = op;
}

LogicalResult ElementTracer::fail(Operation *op, const Twine &why) {
  obstacle = op;
  reason = why.str();
  return failure();
}

/// Looks at the block of the sources, from the first of them on: nothing else
/// can depend on one.
bool ElementTracer::dependsOnSource(Value value) {
  if (sources.contains(value) || indexSources.contains(value))
    return true;
  Operation *op = value.getDefiningOp();
  if (!op || !firstSource || op->getBlock() != firstSource->getBlock() ||
      op->isBeforeInBlock(firstSource))
    return false;
  auto [entry, isNew] = dependence.try_emplace(value, false);
  if (!isNew)
    return entry->second;
  bool depends = false;
  op->walk([&](Operation *inner) {
    depends |= llvm::any_of(inner->getOperands(), [&](Value operand) {
      return dependsOnSource(operand);
    });
  });
  dependence[value] = depends;
  return depends;
}

//===----------------------------------------------------------------------===//
// Leaves
//===----------------------------------------------------------------------===//

/// A constant comes along; other scalars are used from where they are.
Value ElementTracer::capture(Value scalar) {
  Attribute value;
  if (matchPattern(scalar, m_Constant(&value)))
    return arith::ConstantOp::create(builder, scalar.getLoc(),
                                     cast<TypedAttr>(value));
  captured.insert(scalar);
  return scalar;
}

Value ElementTracer::addExtra(Value tensor, ArrayRef<AffineExpr> at) {
  AffineMap map = AffineMap::get(numDims, 0, at, tensor.getContext());
  extras.push_back({tensor, map});
  return body.addArgument(getElementTypeOrSelf(tensor), tensor.getLoc());
}

/// True if `tensor` has fewer different elements than elements, by the way that
/// it is made: it is cheaper to make an element where it is needed.
static bool isRepeated(Value tensor) {
  Operation *op = tensor.getDefiningOp();
  DenseElementsAttr constant;
  if (matchPattern(tensor, m_Constant(&constant)))
    return constant.isSplat();
  if (!op || isa<linalg::FillOp, tensor::SplatOp>(op))
    return op;
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op))
    if (OpOperand *input = getMovedInput(linalgOp)) {
      auto type = dyn_cast<RankedTensorType>(input->get().getType());
      if (!type ||
          type.getRank() < cast<ShapedType>(tensor.getType()).getRank())
        return true;
      return isRepeated(input->get());
    }
  return isTraceable(op) && llvm::all_of(op->getOperands(), [](Value operand) {
           return !isa<RankedTensorType>(operand.getType()) ||
                  isRepeated(operand);
         });
}

/// A tensor that does not depend on the sources becomes an extra; what only
/// repeats or moves elements is looked through, and constants come along.
FailureOr<Value> ElementTracer::traceIndependent(Value tensor,
                                                 ArrayRef<AffineExpr> at) {
  DenseElementsAttr constant;
  if (matchPattern(tensor, m_Constant(&constant)) && constant.isSplat())
    return arith::ConstantOp::create(builder, tensor.getLoc(),
                                     constant.getSplatValue<TypedAttr>())
        .getResult();
  if (auto fill = tensor.getDefiningOp<linalg::FillOp>())
    return capture(fill.value());
  if (auto splat = tensor.getDefiningOp<tensor::SplatOp>())
    return capture(splat.getInput());
  if (auto cast = tensor.getDefiningOp<tensor::CastOp>())
    if (isa<RankedTensorType>(cast.getSource().getType()))
      return trace(cast.getSource(), at);
  if (auto op = tensor.getDefiningOp<linalg::LinalgOp>())
    if (OpOperand *input = getMovedInput(op)) {
      if (!isa<RankedTensorType>(input->get().getType()))
        return capture(input->get());
      return trace(input->get(), indexOf(op, *input, loopsAt(op, 0, at)));
    }
  if (isRepeated(tensor))
    return traceOperation(tensor.getDefiningOp(), at);
  return addExtra(tensor, at);
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

FailureOr<Value> ElementTracer::trace(Value tensor, ArrayRef<AffineExpr> at) {
  AffineMap map = AffineMap::get(numDims, 0, at, tensor.getContext());
  if (Value scalar = done.lookup({tensor, map}))
    return scalar;
  FailureOr<Value> scalar = traceNew(tensor, at);
  if (succeeded(scalar))
    done[{tensor, map}] = *scalar;
  return scalar;
}

FailureOr<Value> ElementTracer::traceNew(Value tensor,
                                         ArrayRef<AffineExpr> at) {
  if (auto source = sources.find(tensor); source != sources.end()) {
    if (ArrayRef(source->second.first) == at)
      return source->second.second;
    return fail(tensor.getDefiningOp(), "is read at other places than its own");
  }
  if (!dependsOnSource(tensor))
    return traceIndependent(tensor, at);
  Operation *op = tensor.getDefiningOp();
  if (!op || !isTraceable(op))
    return fail(op, "is not elementwise");
  traced.insert(op);
  return traceOperation(op, at);
}

FailureOr<Value> ElementTracer::traceOperation(Operation *op,
                                               ArrayRef<AffineExpr> at) {
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op))
    return traceLinalg(linalgOp, 0, at);
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    return trace(cast.getSource(), at);
  return traceElementwise(op, at);
}

FailureOr<Value> ElementTracer::traceElementwise(Operation *op,
                                                 ArrayRef<AffineExpr> at) {
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    if (!isa<RankedTensorType>(operand.getType())) {
      operands.push_back(capture(operand));
      continue;
    }
    FailureOr<Value> scalar = trace(operand, at);
    if (failed(scalar))
      return failure();
    operands.push_back(*scalar);
  }
  return cloneOnScalars(op, operands);
}

FailureOr<Value> ElementTracer::cloneOnScalars(Operation *op,
                                               ArrayRef<Value> operands) {
  Type type = getElementTypeOrSelf(op->getResult(0).getType());
  return builder
      .create(op->getLoc(), op->getName().getIdentifier(), operands, type,
              op->getAttrs())
      ->getResult(0);
}

FailureOr<Value> ElementTracer::traceLinalg(linalg::LinalgOp op,
                                            unsigned result,
                                            ArrayRef<AffineExpr> at) {
  Frame frame(op, loopsAt(op, result, at));
  return traceScalar(op.getBlock()->getTerminator()->getOperand(result), frame);
}

FailureOr<Value> ElementTracer::traceScalar(Value scalar, Frame &frame) {
  Block *block = frame.op.getBlock();
  if (Value known = frame.scalars.lookup(scalar))
    return known;
  FailureOr<Value> made = failure();
  auto arg = dyn_cast<BlockArgument>(scalar);
  if (arg && arg.getOwner() == block) {
    OpOperand &operand = frame.op->getOpOperand(arg.getArgNumber());
    if (!isa<RankedTensorType>(operand.get().getType()))
      made = capture(operand.get());
    else
      made = trace(operand.get(), indexOf(frame.op, operand, frame.loops));
  } else if (scalar.getParentBlock() != block) {
    if (isa<ShapedType>(scalar.getType()))
      return fail(frame.op, "reads a whole tensor");
    made = capture(scalar);
  } else {
    Operation *op = scalar.getDefiningOp();
    if (isa<tensor::ExtractOp>(op)) {
      made = traceExtract(op, frame);
    } else if (!isPure(op) || op->getNumRegions() || op->getNumResults() != 1 ||
               isa<linalg::IndexOp>(op)) {
      return fail(op, "is no operation on scalars alone");
    } else {
      SmallVector<Value> operands;
      for (Value operand : op->getOperands()) {
        FailureOr<Value> next = traceScalar(operand, frame);
        if (failed(next))
          return failure();
        operands.push_back(*next);
      }
      made = cloneOnScalars(op, operands);
    }
  }
  if (succeeded(made))
    frame.scalars[scalar] = *made;
  return made;
}

/// table[id]: a table that does not depend on the sources, at indices that are
/// loops, constants, or ids.
FailureOr<Value> ElementTracer::traceExtract(Operation *op, Frame &frame) {
  auto extract = cast<tensor::ExtractOp>(op);
  if (extract.getTensor().getParentBlock() == frame.op.getBlock() ||
      dependsOnSource(extract.getTensor()))
    return fail(op, "reads a tensor that is computed from the logits");
  Index at;
  for (Value index : extract.getIndices()) {
    FailureOr<AffineExpr> expr = traceIndex(index, frame);
    if (failed(expr))
      return failure();
    at.push_back(*expr);
  }
  return traceIndependent(extract.getTensor(), at);
}

FailureOr<AffineExpr> ElementTracer::traceIndex(Value index, Frame &frame) {
  APInt constant;
  if (matchPattern(index, m_ConstantInt(&constant)))
    return builder.getAffineConstantExpr(constant.getSExtValue());
  Operation *op = index.getDefiningOp();
  if (auto loop = dyn_cast_or_null<linalg::IndexOp>(op))
    return frame.loops[loop.getDim()];
  if (isa_and_nonnull<arith::IndexCastOp, arith::IndexCastUIOp>(op)) {
    auto arg = dyn_cast<BlockArgument>(op->getOperand(0));
    if (arg && arg.getOwner() == frame.op.getBlock()) {
      OpOperand &operand = frame.op->getOpOperand(arg.getArgNumber());
      auto source = indexSources.find(operand.get());
      if (source != indexSources.end() &&
          source->second.first == indexOf(frame.op, operand, frame.loops))
        return source->second.second;
    }
  }
  return fail(op ? op : frame.op.getOperation(),
              "computes an index that is no loop, constant or id");
}
