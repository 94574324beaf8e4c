//===- ExpertContractions.cpp - Products in a body --------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ExpertElements.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/MoE/Utils/MultiplyAdd.h"

using namespace mlir;
using namespace mlir::moe;

using Dims = GroupedMatmulOp;

//===----------------------------------------------------------------------===//
// The form of a contraction
//===----------------------------------------------------------------------===//

/// Whether the indices of `operand` are the two loops, in any order.
static bool isIndexedBy(linalg::LinalgOp op, OpOperand *operand, unsigned a,
                        unsigned b) {
  AffineMap map = op.getMatchingIndexingMap(operand);
  if (map.getNumResults() != 2 || !map.isProjectedPermutation())
    return false;
  unsigned first = map.getDimPosition(0), second = map.getDimPosition(1);
  return (first == a && second == b) || (first == b && second == a);
}

std::optional<Contraction> mlir::moe::matchContraction(linalg::LinalgOp op,
                                                       Obstacle &obstacle) {
  if (op.getNumDpsInputs() != 2 || op.getNumDpsInits() != 1 ||
      op.getNumReductionLoops() != 1 || !op.hasPureTensorSemantics() ||
      !addsProducts(op))
    return {};
  auto refuse = [&](const Twine &reason, const Twine &advice) {
    obstacle = {op, reason.str(), advice.str()};
    return std::nullopt;
  };
  AffineMap out = op.getMatchingIndexingMap(op.getDpsInitOperand(0));
  if (op.getNumLoops() != 3 || out.getNumResults() != 2 ||
      !out.isProjectedPermutation())
    return refuse("is not a matmul of rows and one matrix",
                  "write one matmul for each matrix");
  SmallVector<unsigned> sums;
  op.getReductionDims(sums);
  Contraction found;
  found.row = out.getDimPosition(0);
  found.column = out.getDimPosition(1);
  found.sum = sums[0];
  found.lhs = op.getDpsInputOperand(0);
  found.weight = op.getDpsInputOperand(1);
  if (!isIndexedBy(op, found.lhs, found.row, found.sum))
    std::swap(found.lhs, found.weight);
  if (!isIndexedBy(op, found.lhs, found.row, found.sum) ||
      !isIndexedBy(op, found.weight, found.column, found.sum))
    return refuse("is not a matmul of rows and one matrix",
                  "write one matmul for each matrix");
  auto elementTypeOf = [](Value value) {
    return getElementTypeOrSelf(value.getType());
  };
  Type sum = elementTypeOf(op.getDpsInitOperand(0)->get());
  if (!sum.isF32()) {
    std::string name;
    llvm::raw_string_ostream(name) << sum;
    return refuse("adds in " + name + ", and a grouped matmul adds in f32",
                  "give the matmul an f32 destination and truncate its result");
  }
  if (!isFactorType(elementTypeOf(found.lhs->get())) ||
      !isFactorType(elementTypeOf(found.weight->get())))
    return refuse("multiplies other types than f32, f16 and bf16",
                  "extend or convert the operands first");
  return found;
}

//===----------------------------------------------------------------------===//
// Contractions as products
//===----------------------------------------------------------------------===//

/// Whether `column` names another column for each n, so that a product is not
/// computed again and again.
static bool isInjective(AffineExpr column, AffineExpr n) {
  MLIRContext *context = column.getContext();
  SmallVector<AffineExpr> zeros(Dims::kNumDims,
                                getAffineConstantExpr(0, context));
  AffineExpr offset = column.replaceDims(zeros);
  zeros[Dims::kColumn] = getAffineConstantExpr(1, context);
  AffineExpr step = column.replaceDims(zeros) - offset;
  auto factor = dyn_cast<AffineConstantExpr>(step);
  return factor && factor.getValue() != 0 &&
         simplifyAffineExpr(column - offset - n * step, Dims::kNumDims, 0) ==
             getAffineConstantExpr(0, context);
}

/// The value to read the lhs from: `value`, or what it is a plain view or an
/// extension of, down to a row value. Null if none is indexed [m, k].
Value BodyTracer::findLhs(Value value, IndexExprs index) {
  Value found;
  while (true) {
    if (isIndex(index, Dims::kSum)) {
      found = value;
      if (isRowValue(value))
        return found;
    }
    Operation *op = value.getDefiningOp();
    if (isFromAbove(value) || !op)
      return found;
    if (auto extension = dyn_cast<arith::ExtFOp>(op);
        extension &&
        isFactorType(getElementTypeOrSelf(extension.getIn().getType()))) {
      value = extension.getIn();
    } else if (auto cast = dyn_cast<tensor::CastOp>(op)) {
      value = cast.getSource();
    } else if (auto transpose = dyn_cast<linalg::TransposeOp>(op)) {
      IndexExprs source(index.size());
      for (auto [at, from] : llvm::zip(index, transpose.getPermutation()))
        source[from] = at;
      value = transpose.getInput();
      index = source;
    } else {
      return found;
    }
  }
}

/// The row argument that a prologue for `element` reads at [m, k]; null if the
/// element is none of a prologue. Work on what an earlier stage stores is not:
/// it belongs to that stage, once for each row.
Value BodyTracer::findPrologueRows(const Element *element) {
  Value rows;
  bool isOfArguments = true;
  walkElements(element, [&](const Element &leaf) {
    if (leaf.kind == Element::Kind::Product)
      isOfArguments = false;
    if (leaf.kind != Element::Kind::Stored)
      return;
    isOfArguments &= !stored.contains(leaf.value);
    if (!rows && isRowValue(leaf.value) && isIndex(leaf.index, Dims::kSum))
      rows = leaf.value;
  });
  return isOfArguments ? rows : Value();
}

/// `element` before an extension to f32, which products do by themselves.
static const Element *withoutExtension(const Element *element) {
  bool extends = element && element->kind == Element::Kind::Operation &&
                 isa_and_nonnull<arith::ExtFOp>(element->op);
  return extends ? element->operands[0] : element;
}

std::optional<ProductTerm> BodyTracer::traceTerm(Operation *op, Value lhs,
                                                 IndexExprs lhsIndex,
                                                 Value weight,
                                                 IndexExprs weightIndex) {
  ProductTerm term;
  term.lhs = findLhs(lhs, lhsIndex);
  if (!term.lhs || !isRowValue(term.lhs)) {
    const Element *element = withoutExtension(traceAt(lhs, lhsIndex));
    if (Value rows = element ? findPrologueRows(element) : Value()) {
      term.lhs = rows;
      term.prologue = element;
    }
  }
  if (!term.lhs || (!isRowValue(term.lhs) && !isStorable(term.lhs))) {
    refuse(op, "multiplies rows whose number or width is unknown",
           "give the rows of the matmul a known width");
    return std::nullopt;
  }
  const Element *element = withoutExtension(traceAt(weight, weightIndex));
  if (!element || element->kind != Element::Kind::Stored ||
      isRowValue(element->value) ||
      !isFactorType(getElementTypeOrSelf(element->value.getType()))) {
    refuse(op, "multiplies with a weight that the body computes",
           "pass the weight as a parameter of the moe.expert");
    return std::nullopt;
  }
  term.weight = element->value;
  term.weightIndex = element->index;
  return term;
}

const Element *BodyTracer::traceContraction(linalg::LinalgOp op,
                                            const IndexExprs &index) {
  Obstacle unused;
  Contraction form = *matchContraction(op, unused);
  if (index.size() != 2 || index[0] != dim(Dims::kRow))
    return refuse(op, "is read in other rows than its own",
                  "compute each row from itself");
  if (!isInjective(index[1], dim(Dims::kColumn)))
    return refuse(op, "is read more than once a row");
  if (!isStorable(op->getResult(0)))
    return refuse(op, "has a result of unknown width",
                  "give its type a static number of columns");
  IndexExprs loops(3);
  loops[form.row] = index[0];
  loops[form.column] = index[1];
  loops[form.sum] = dim(Dims::kSum);
  auto indexOf = [&](OpOperand *operand) {
    IndexExprs at;
    for (AffineExpr expr : op.getMatchingIndexingMap(operand).getResults())
      at.push_back(expr.replaceDims(loops));
    return at;
  };
  std::optional<ProductTerm> term =
      traceTerm(op, form.lhs->get(), indexOf(form.lhs), form.weight->get(),
                indexOf(form.weight));
  if (!term)
    return nullptr;
  Element &product = make(Element::Kind::Product);
  product.op = op;
  product.column = index[1];
  product.terms.push_back(*term);
  return addInit(op, index, product);
}

/// What the sum starts with: nothing, another product, which is the first term
/// then, or anything else, which is added afterwards.
const Element *BodyTracer::addInit(linalg::LinalgOp op, const IndexExprs &index,
                                   Element &product) {
  const Element *init = traceAt(op.getDpsInitOperand(0)->get(), index);
  if (!init)
    return nullptr;
  if (init->kind == Element::Kind::Constant &&
      cast<FloatAttr>(init->constant).getValue().isPosZero())
    return &product;
  if (init->kind == Element::Kind::Product) {
    product.terms.insert(product.terms.begin(), init->terms.begin(),
                         init->terms.end());
    return &product;
  }
  Element &sum = make(Element::Kind::Operation);
  sum.operands = {init, &product};
  return &sum;
}
