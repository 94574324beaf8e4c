//===- ExpertElements.h - An element of a body's tensors --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The body of moe.expert says what whole tensors are; moe.grouped_matmul says
// what one element is. In between: an element of a tensor of the body, as a
// graph of scalars over elements that are stored and over products of rows and
// weights. Views, slices, reshapes, broadcasts and elementwise ops are index
// arithmetic here, so that no form of writing a body needs a pattern of its
// own.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_EXPERTELEMENTS_H
#define LIB_DIALECT_MOE_TRANSFORMS_EXPERTELEMENTS_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/SetVector.h"
#include <deque>

namespace mlir::moe {

/// Indices of an element, in the dimensions of GroupedMatmulOp's maps. The row
/// is that of the expert in the body and that of all experts outside.
using IndexExprs = SmallVector<AffineExpr, 4>;

struct Element;

/// Σ_k lhs[m, k] · weight[…], where the indices of the weight are made of n, k
/// and, for values from above, e.
struct ProductTerm {
  /// A row argument, or a value of the body that has to be stored. With a
  /// prologue, the row argument that it computes the lhs from first of all.
  Value lhs;
  /// The element [m, k] that is multiplied; null where it is that of `lhs`.
  const Element *prologue = nullptr;
  /// A per-expert argument of the body, or a value from above.
  Value weight;
  IndexExprs weightIndex;
};

struct Element {
  enum class Kind {
    /// The same scalar everywhere.
    Constant,
    /// A scalar from above.
    Captured,
    /// tensor[index], for a row argument, a stored value of the body, a
    /// per-expert argument, or a value from above.
    Stored,
    /// The sum of `terms`.
    Product,
    /// Result `result` of a scalar `op` on `operands`. A null `op` adds them.
    Operation,
  };
  Kind kind;
  TypedAttr constant;
  Value value;
  IndexExprs index;
  /// For Product: the op in the body and the column of its result.
  Operation *op = nullptr;
  AffineExpr column;
  SmallVector<ProductTerm, 1> terms;
  unsigned result = 0;
  SmallVector<const Element *, 3> operands;
};

/// Calls `visit` for each element that `root` is computed from, operands
/// first, once. What a product multiplies is not among them.
void walkElements(const Element *root,
                  function_ref<void(const Element &)> visit);

/// Why something cannot be an element: what the op is and does, and what to
/// write instead.
struct Obstacle {
  Operation *op = nullptr;
  std::string reason;
  std::string advice;
};

class BodyTracer {
public:
  explicit BodyTracer(ExpertOp expert);

  /// Declares a value of the body as stored, so that elements read it.
  /// Returns true if it was not before.
  bool store(Value value);
  bool isStored(Value value) const { return stored.contains(value); }
  ArrayRef<Value> getStored() const { return stored.getArrayRef(); }
  /// A row argument or a stored value.
  bool isRowValue(Value value) const;

  /// The element [m, n] (or [m] or [m, n, …], n being 0 beyond) of `value`,
  /// computed even if it is stored; null if it cannot be had, and then
  /// getObstacle says why.
  const Element *trace(Value value);
  /// The same, as if the values `through` were not stored.
  const Element *traceThrough(Value value, ArrayRef<Value> through);
  const Obstacle &getObstacle() const { return obstacle; }

  /// Whether a value of the body can be kept as M×…: it has a row for each of
  /// the expert's rows, and its other dimensions are known.
  bool isStorable(Value value) const;
  /// Whether dimension 0 of `value` is the number of the expert's rows.
  bool hasAllRows(Value value) const;

  AffineExpr dim(GroupedMatmulOp::Dim dim) const {
    return getAffineDimExpr(dim, expert->getContext());
  }

private:
  const Element *traceAt(Value value, IndexExprs index);
  const Element *compute(Value value, const IndexExprs &index);
  const Element *computeOp(OpResult value, const IndexExprs &index);
  const Element *readStored(Value value, const IndexExprs &index);
  const Element *traceConstant(arith::ConstantOp op);
  const Element *traceElementwise(OpResult value, const IndexExprs &index);
  const Element *traceLinalg(linalg::LinalgOp op, OpResult value,
                             const IndexExprs &index);
  const Element *traceInBody(linalg::LinalgOp op, Value value,
                             const IndexExprs &loops);
  const Element *traceSlice(tensor::ExtractSliceOp op, const IndexExprs &index);
  const Element *traceReshape(Value source, Value result,
                              ArrayRef<ReassociationIndices> groups,
                              bool isCollapse, const IndexExprs &index);
  const Element *traceScalar(Value value);
  const Element *traceOperation(OpResult value,
                                function_ref<const Element *(Value)> operand);

  const Element *traceContraction(linalg::LinalgOp op, const IndexExprs &index);
  std::optional<ProductTerm> traceTerm(Operation *op, Value lhs,
                                       IndexExprs lhsIndex, Value weight,
                                       IndexExprs weightIndex);
  Value findLhs(Value value, IndexExprs index);
  Value findPrologueRows(const Element *element);
  const Element *addInit(linalg::LinalgOp op, const IndexExprs &index,
                         Element &product);

  AffineExpr indexExprOf(OpFoldResult index) const;
  bool isFromAbove(Value value) const;
  bool isIndex(const IndexExprs &index, GroupedMatmulOp::Dim column) const;
  Element &make(Element::Kind kind);
  std::nullptr_t refuse(Operation *op, const Twine &reason,
                        const Twine &advice = "");

  /// A handle; accessors of ops are not const.
  mutable ExpertOp expert;
  llvm::SetVector<Value> stored;
  /// Stored values that are computed again just now.
  llvm::SmallDenseSet<Value> transparent;
  std::deque<Element> elements;
  DenseMap<Value, SmallVector<std::pair<IndexExprs, const Element *>, 1>> memo;
  Obstacle obstacle;
};

/// A linalg op that adds products of rows and weights, in f32.
struct Contraction {
  OpOperand *lhs, *weight;
  /// The loops over rows, columns and the sum.
  unsigned row, column, sum;
};

/// Recognizes a matmul of any layout, as a named or a generic op. Returns why
/// not, in `obstacle`, for an op that adds products in another way; leaves it
/// alone for other ops.
std::optional<Contraction> matchContraction(linalg::LinalgOp op,
                                            Obstacle &obstacle);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_EXPERTELEMENTS_H
