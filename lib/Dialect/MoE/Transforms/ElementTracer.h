//===- ElementTracer.h - Elementwise tensor code as scalars -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Follows an element of a tensor back through elementwise operations, whole
// tensors in arith and math or linalg, to a source and to tensors that do not
// depend on it, and writes the same computation on scalars into a block.
//
// BodyTracer (ExpertElements.h) follows elements too, and is another class for
// what it is asked: where the stages of a body are is known only after its
// elements are, so it builds a graph that is cut, and traced again, before any
// op is written. Here the one source is given, and a path is a region at once.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_ELEMENTTRACER_H
#define LIB_DIALECT_MOE_TRANSFORMS_ELEMENTTRACER_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::moe {

/// True for an operation that computes each element of its one result from one
/// element of each operand: elementwise, broadcast, transposed, cast.
bool isTraceable(Operation *op);

class ElementTracer {
public:
  using Index = SmallVector<AffineExpr, 2>;
  struct Extra {
    Value tensor;
    AffineMap map;
  };

  /// Writes to the end of `body`, which may be in no operation yet; indices are
  /// expressions of `numDims` dimensions.
  ElementTracer(MLIRContext *context, Block &body, unsigned numDims);

  /// Element `at` of `tensor` is `scalar`; nothing that depends on `tensor`
  /// becomes an extra. Sources are results of operations of one block.
  void addSource(Value tensor, Index at, Value scalar);
  /// Element `at` of the integers `tensor`, where it is an index, is `index`.
  void addIndexSource(Value tensor, Index at, AffineExpr index);

  /// The scalar that is element `at` of `tensor`, or failure; getObstacle and
  /// getReason tell why.
  FailureOr<Value> trace(Value tensor, ArrayRef<AffineExpr> at);

  /// What the block's arguments stand for that trace has added.
  ArrayRef<Extra> getExtras() const { return extras; }
  /// Scalars from outside that are used as they are.
  ArrayRef<Value> getCaptured() const { return captured.getArrayRef(); }
  /// Operations between the sources and what was traced.
  ArrayRef<Operation *> getTraced() const { return traced.getArrayRef(); }
  Operation *getObstacle() const { return obstacle; }
  StringRef getReason() const { return reason; }

private:
  /// One linalg operation, seen from inside: its loops as expressions.
  struct Frame {
    linalg::LinalgOp op;
    Index loops;
    DenseMap<Value, Value> scalars;
    Frame(linalg::LinalgOp op, Index loops) : op(op), loops(std::move(loops)) {}
  };

  Block &body;
  OpBuilder builder;
  unsigned numDims;
  DenseMap<Value, std::pair<Index, Value>> sources;
  DenseMap<Value, std::pair<Index, AffineExpr>> indexSources;
  DenseMap<std::pair<Value, AffineMap>, Value> done;
  DenseMap<Value, bool> dependence;
  SmallVector<Extra> extras;
  llvm::SetVector<Value> captured;
  llvm::SetVector<Operation *> traced;
  /// Of those that make the sources.
  Operation *firstSource = nullptr;
  Operation *obstacle = nullptr;
  std::string reason;

  LogicalResult fail(Operation *op, const Twine &why);
  void noteSource(Operation *op);
  bool dependsOnSource(Value value);
  FailureOr<Value> traceNew(Value tensor, ArrayRef<AffineExpr> at);
  FailureOr<Value> traceIndependent(Value tensor, ArrayRef<AffineExpr> at);
  FailureOr<Value> traceOperation(Operation *op, ArrayRef<AffineExpr> at);
  FailureOr<Value> traceElementwise(Operation *op, ArrayRef<AffineExpr> at);
  FailureOr<Value> traceLinalg(linalg::LinalgOp op, unsigned result,
                               ArrayRef<AffineExpr> at);
  FailureOr<Value> traceScalar(Value scalar, Frame &frame);
  FailureOr<Value> traceExtract(Operation *op, Frame &frame);
  FailureOr<AffineExpr> traceIndex(Value index, Frame &frame);
  FailureOr<Value> cloneOnScalars(Operation *op, ArrayRef<Value> operands);
  Value addExtra(Value tensor, ArrayRef<AffineExpr> at);
  Value capture(Value scalar);
};

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_ELEMENTTRACER_H
