//===- ExpertElements.cpp - An element of a body's tensors ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ExpertElements.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;
using namespace mlir::moe;

using Dims = GroupedMatmulOp;

static void walk(const Element *element,
                 llvm::SmallPtrSetImpl<const Element *> &visited,
                 function_ref<void(const Element &)> visit) {
  if (!visited.insert(element).second)
    return;
  for (const Element *operand : element->operands)
    walk(operand, visited, visit);
  visit(*element);
}

void mlir::moe::walkElements(const Element *root,
                             function_ref<void(const Element &)> visit) {
  llvm::SmallPtrSet<const Element *, 16> visited;
  walk(root, visited, visit);
}

//===----------------------------------------------------------------------===//
// What is stored
//===----------------------------------------------------------------------===//

BodyTracer::BodyTracer(ExpertOp expert) : expert(expert) {}

bool BodyTracer::store(Value value) {
  if (!stored.insert(value))
    return false;
  memo.clear();
  return true;
}

bool BodyTracer::isRowValue(Value value) const {
  return stored.contains(value) ||
         llvm::is_contained(expert.getRowArgs(), value);
}

bool BodyTracer::isFromAbove(Value value) const {
  return !expert.getBody().isAncestor(value.getParentRegion());
}

bool BodyTracer::isStorable(Value value) const {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && type.getRank() > 0 && hasAllRows(value) &&
         llvm::none_of(type.getShape().drop_front(), ShapedType::isDynamic);
}

/// Whether `size` is the number of the expert's rows, as bodies ask for it.
static bool isNumRows(const BodyTracer &tracer, OpFoldResult size) {
  auto value = dyn_cast<Value>(size);
  auto dim = value ? value.getDefiningOp<tensor::DimOp>() : nullptr;
  return dim && dim.getConstantIndex() == 0 &&
         tracer.hasAllRows(dim.getSource());
}

bool BodyTracer::hasAllRows(Value value) const {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || type.getRank() == 0 || isFromAbove(value))
    return false;
  if (isRowValue(value))
    return true;
  Operation *op = value.getDefiningOp();
  if (!op || type.getRank() == 0)
    return false;
  if (auto empty = dyn_cast<tensor::EmptyOp>(op))
    return isNumRows(*this, empty.getMixedSizes()[0]);
  if (auto splat = dyn_cast<tensor::SplatOp>(op))
    return type.isDynamicDim(0) && isNumRows(*this, splat.getDynamicSizes()[0]);
  if (auto style = dyn_cast<DestinationStyleOpInterface>(op))
    return hasAllRows(
        style.getDpsInitOperand(cast<OpResult>(value).getResultNumber())
            ->get());
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    return hasAllRows(cast.getSource());
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op))
    return !slice.getDroppedDims()[0] &&
           isZeroInteger(slice.getMixedOffsets()[0]) &&
           isOneInteger(slice.getMixedStrides()[0]) &&
           isNumRows(*this, slice.getMixedSizes()[0]);
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(op))
    return collapse.getReassociationIndices()[0].size() == 1 &&
           hasAllRows(collapse.getSrc());
  if (auto expand = dyn_cast<tensor::ExpandShapeOp>(op))
    return expand.getReassociationIndices()[0].size() == 1 &&
           hasAllRows(expand.getSrc());
  return OpTrait::hasElementwiseMappableTraits(op) &&
         llvm::any_of(op->getOperands(), [&](Value operand) {
           return isa<RankedTensorType>(operand.getType()) &&
                  hasAllRows(operand);
         });
}

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

Element &BodyTracer::make(Element::Kind kind) {
  Element &element = elements.emplace_back();
  element.kind = kind;
  return element;
}

std::nullptr_t BodyTracer::refuse(Operation *op, const Twine &reason,
                                  const Twine &advice) {
  obstacle = {op, reason.str(), advice.str()};
  return nullptr;
}

bool BodyTracer::isIndex(const IndexExprs &index,
                         GroupedMatmulOp::Dim column) const {
  return index.size() == 2 && index[0] == dim(Dims::kRow) &&
         index[1] == dim(column);
}

/// An index of the body as an expression in e, or null.
AffineExpr BodyTracer::indexExprOf(OpFoldResult index) const {
  MLIRContext *context = expert.getContext();
  if (std::optional<int64_t> constant = getConstantIntValue(index))
    return getAffineConstantExpr(*constant, context);
  auto value = dyn_cast<Value>(index);
  if (!value)
    return {};
  if (value == expert.getExpertArg())
    return dim(Dims::kExpert);
  Operation *op = value.getDefiningOp();
  if (!op)
    return {};
  SmallVector<AffineExpr> operands;
  for (Value operand : op->getOperands()) {
    operands.push_back(operand.getType().isIndex() ? indexExprOf(operand)
                                                   : AffineExpr());
    if (!operands.back())
      return {};
  }
  if (isa<arith::AddIOp>(op))
    return operands[0] + operands[1];
  if (isa<arith::SubIOp>(op))
    return operands[0] - operands[1];
  if (isa<arith::MulIOp>(op) && (operands[0].isSymbolicOrConstant() ||
                                 operands[1].isSymbolicOrConstant()))
    return operands[0] * operands[1];
  if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
    AffineMap map = apply.getAffineMap();
    unsigned numDims = map.getNumDims();
    return map.getResult(0).replaceDimsAndSymbols(
        ArrayRef(operands).take_front(numDims),
        ArrayRef(operands).drop_front(numDims));
  }
  return {};
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

const Element *BodyTracer::trace(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  IndexExprs index(type.getRank(),
                   getAffineConstantExpr(0, expert.getContext()));
  if (!index.empty())
    index[0] = dim(Dims::kRow);
  if (index.size() > 1)
    index[1] = dim(Dims::kColumn);
  return compute(value, index);
}

const Element *BodyTracer::traceThrough(Value value, ArrayRef<Value> through) {
  memo.clear();
  transparent.insert_range(through);
  const Element *element = trace(value);
  transparent.clear();
  memo.clear();
  return element;
}

const Element *BodyTracer::traceAt(Value value, IndexExprs index) {
  for (AffineExpr &expr : index)
    expr = simplifyAffineExpr(expr, Dims::kNumDims, /*numSymbols=*/0);
  for (auto &[known, element] : memo[value])
    if (known == index)
      return element;
  bool isRead = isRowValue(value) && !transparent.contains(value);
  const Element *element =
      isRead ? readStored(value, index) : compute(value, index);
  memo[value].push_back({index, element});
  return element;
}

const Element *BodyTracer::readStored(Value value, const IndexExprs &index) {
  bool isRow = isRowValue(value);
  if (isRow && (index.empty() || index[0] != dim(Dims::kRow)))
    return refuse(value.getDefiningOp(), "reads other rows than its own",
                  "compute each row from itself");
  // The body counts the rows of its expert, an index map those of all.
  if (!isRow && llvm::any_of(index, [](AffineExpr expr) {
        return expr.isFunctionOfDim(Dims::kRow);
      }))
    return refuse(value.getDefiningOp(),
                  "reads a table by the number of a row within its expert",
                  "pass what differs by row as a row operand");
  Element &element = make(Element::Kind::Stored);
  element.value = value;
  element.index = index;
  return &element;
}

const Element *BodyTracer::compute(Value value, const IndexExprs &index) {
  if (isFromAbove(value) || isa<BlockArgument>(value)) {
    // A constant says more than its address.
    auto constant = value.getDefiningOp<arith::ConstantOp>();
    if (constant && isa<SplatElementsAttr>(constant.getValue()))
      return traceConstant(constant);
    if (isFromAbove(value) ||
        cast<BlockArgument>(value).getOwner() == &expert.getBody().front())
      return readStored(value, index);
    return refuse(nullptr, "is the argument of a nested region");
  }
  return computeOp(cast<OpResult>(value), index);
}

const Element *BodyTracer::computeOp(OpResult value, const IndexExprs &index) {
  Operation *op = value.getOwner();
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return traceConstant(constant);
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op))
    return traceLinalg(linalgOp, value, index);
  if (OpTrait::hasElementwiseMappableTraits(op))
    return traceElementwise(value, index);
  if (auto splat = dyn_cast<tensor::SplatOp>(op))
    return traceScalar(splat.getInput());
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    return traceAt(cast.getSource(), index);
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op))
    return traceSlice(slice, index);
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(op))
    return traceReshape(collapse.getSrc(), value,
                        collapse.getReassociationIndices(),
                        /*isCollapse=*/true, index);
  if (auto expand = dyn_cast<tensor::ExpandShapeOp>(op))
    return traceReshape(expand.getSrc(), value,
                        expand.getReassociationIndices(),
                        /*isCollapse=*/false, index);
  return refuse(op, "is no elementwise op, view or matmul");
}

const Element *BodyTracer::traceConstant(arith::ConstantOp op) {
  Element &element = make(Element::Kind::Constant);
  if (!isa<ElementsAttr>(op.getValue())) {
    element.constant = op.getValue();
    return &element;
  }
  auto splat = dyn_cast<SplatElementsAttr>(op.getValue());
  if (!splat)
    return refuse(op, "is a table of constants in the body",
                  "move it above the moe.expert");
  element.constant = cast<TypedAttr>(splat.getSplatValue<Attribute>());
  return &element;
}

const Element *
BodyTracer::traceOperation(OpResult value,
                           function_ref<const Element *(Value)> operand) {
  Operation *op = value.getOwner();
  if (op->getNumRegions())
    return refuse(op, "has a region, which an epilogue does not take",
                  "use arith.select");
  Element &element = make(Element::Kind::Operation);
  element.op = op;
  element.result = value.getResultNumber();
  for (Value input : op->getOperands()) {
    const Element *traced = operand(input);
    if (!traced)
      return nullptr;
    element.operands.push_back(traced);
  }
  return &element;
}

const Element *BodyTracer::traceElementwise(OpResult value,
                                            const IndexExprs &index) {
  return traceOperation(value, [&](Value operand) {
    return isa<TensorType>(operand.getType()) ? traceAt(operand, index)
                                              : traceScalar(operand);
  });
}

const Element *BodyTracer::traceSlice(tensor::ExtractSliceOp op,
                                      const IndexExprs &index) {
  llvm::SmallBitVector dropped = op.getDroppedDims();
  IndexExprs source;
  unsigned next = 0;
  for (auto [i, offset, stride] :
       llvm::enumerate(op.getMixedOffsets(), op.getMixedStrides())) {
    AffineExpr offsetExpr = indexExprOf(offset);
    std::optional<int64_t> step = getConstantIntValue(stride);
    if (!offsetExpr || !step)
      return refuse(op, "slices where only the run time knows",
                    "use constants, or %expert, for offsets and strides");
    source.push_back(dropped[i] ? offsetExpr
                                : offsetExpr + index[next++] * *step);
  }
  return traceAt(op.getSource(), source);
}

/// Dimensions of `group` as one index, the last one moving fastest.
static AffineExpr linearize(ArrayRef<int64_t> group, ArrayRef<int64_t> shape,
                            ArrayRef<AffineExpr> index) {
  AffineExpr linear = index[group.front()];
  for (int64_t dim : group.drop_front())
    linear = linear * shape[dim] + index[dim];
  return linear;
}

/// The inverse: appends an index for each dimension of `group`.
static void delinearize(AffineExpr linear, ArrayRef<int64_t> group,
                        ArrayRef<int64_t> shape, IndexExprs &index) {
  int64_t inner = 1;
  for (int64_t dim : group.drop_front())
    inner *= shape[dim];
  for (auto [i, dim] : llvm::enumerate(group)) {
    AffineExpr expr = inner == 1 ? linear : linear.floorDiv(inner);
    index.push_back(i == 0 ? expr : expr % shape[dim]);
    if (i + 1 < group.size())
      inner /= shape[group[i + 1]];
  }
}

const Element *BodyTracer::traceReshape(Value source, Value result,
                                        ArrayRef<ReassociationIndices> groups,
                                        bool isCollapse,
                                        const IndexExprs &index) {
  Value wide = isCollapse ? source : result;
  ArrayRef<int64_t> shape = cast<RankedTensorType>(wide.getType()).getShape();
  IndexExprs at;
  for (auto [i, group] : llvm::enumerate(groups)) {
    for (int64_t dim : ArrayRef(group).drop_front())
      if (ShapedType::isDynamic(shape[dim]) || shape[dim] == 0)
        return refuse(result.getDefiningOp(), "reshapes sizes that are unknown",
                      "give the type its sizes");
    if (isCollapse)
      delinearize(index[i], group, shape, at);
    else
      at.push_back(linearize(group, shape, index));
  }
  return traceAt(source, at);
}

//===----------------------------------------------------------------------===//
// linalg
//===----------------------------------------------------------------------===//

/// The index expressions of `map` at the loops given.
static IndexExprs applyMap(AffineMap map, ArrayRef<AffineExpr> loops) {
  IndexExprs index;
  for (AffineExpr expr : map.getResults())
    index.push_back(expr.replaceDims(loops));
  return index;
}

const Element *BodyTracer::traceLinalg(linalg::LinalgOp op, OpResult value,
                                       const IndexExprs &index) {
  Obstacle why;
  if (matchContraction(op, why))
    return traceContraction(op, index);
  if (why.op)
    return refuse(op, why.reason, why.advice);
  if (op.getNumParallelLoops() != op.getNumLoops())
    return refuse(op, "reduces a row",
                  "what follows from the token alone can be computed before "
                  "the moe.dispatch");
  AffineMap map =
      op.getMatchingIndexingMap(op.getDpsInitOperand(value.getResultNumber()));
  if (!map.isPermutation())
    return refuse(op, "does not write each element of its result once");
  IndexExprs loops(map.getNumDims());
  for (auto [expr, at] : llvm::zip(map.getResults(), index))
    loops[cast<AffineDimExpr>(expr).getPosition()] = at;
  Value yielded =
      op.getBlock()->getTerminator()->getOperand(value.getResultNumber());
  return traceInBody(op, yielded, loops);
}

/// A scalar in the region of an elementwise linalg op.
const Element *BodyTracer::traceInBody(linalg::LinalgOp op, Value value,
                                       const IndexExprs &loops) {
  for (auto &[known, element] : memo[value])
    if (known == loops)
      return element;
  const Element *element = nullptr;
  if (auto argument = dyn_cast<BlockArgument>(value);
      argument && argument.getOwner() == op.getBlock()) {
    OpOperand &operand = op->getOpOperand(argument.getArgNumber());
    element =
        isa<TensorType>(operand.get().getType())
            ? traceAt(operand.get(),
                      applyMap(op.getMatchingIndexingMap(&operand), loops))
            : traceScalar(operand.get());
  } else if (value.getParentBlock() != op.getBlock()) {
    element = traceScalar(value);
  } else if (auto constant = value.getDefiningOp<arith::ConstantOp>()) {
    element = traceConstant(constant);
  } else if (OpTrait::hasElementwiseMappableTraits(value.getDefiningOp())) {
    element = traceOperation(cast<OpResult>(value), [&](Value input) {
      return traceInBody(op, input, loops);
    });
  } else {
    element =
        refuse(op, "has '" + value.getDefiningOp()->getName().getStringRef() +
                       "' in its region");
  }
  memo[value].push_back({loops, element});
  return element;
}

//===----------------------------------------------------------------------===//
// Scalars of the body
//===----------------------------------------------------------------------===//

const Element *BodyTracer::traceScalar(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto constant = dyn_cast_or_null<arith::ConstantOp>(op))
    return traceConstant(constant);
  if (isFromAbove(value)) {
    Element &element = make(Element::Kind::Captured);
    element.value = value;
    return &element;
  }
  if (!op)
    return refuse(expert, "computes with %expert",
                  "read a table E×… that is a parameter of the moe.expert");
  if (auto extract = dyn_cast<tensor::ExtractOp>(op)) {
    IndexExprs index;
    for (Value at : extract.getIndices()) {
      index.push_back(indexExprOf(at));
      if (!index.back())
        return refuse(op, "reads where only the run time knows");
    }
    return traceAt(extract.getTensor(), index);
  }
  if (!OpTrait::hasElementwiseMappableTraits(op))
    return refuse(op, "is a scalar that an epilogue does not take");
  return traceOperation(cast<OpResult>(value),
                        [&](Value input) { return traceScalar(input); });
}
