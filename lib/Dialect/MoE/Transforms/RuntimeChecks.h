//===- RuntimeChecks.h - Building assertions about one op -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_RUNTIMECHECKS_H
#define LIB_DIALECT_MOE_TRANSFORMS_RUNTIMECHECKS_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

namespace mlir::moe {

/// Builds assertions about one op, on tensors or memrefs.
class Checks {
public:
  using ErrorMessage = function_ref<std::string(Operation *, StringRef)>;

  Checks(Operation *op, OpBuilder &builder, Location loc, ErrorMessage message)
      : builder(builder), loc(loc), message(message), op(op) {}

  OpBuilder &builder;
  Location loc;
  /// How the pass that asked for the checks words an error.
  ErrorMessage message;

  Value index(int64_t value) { return buildIndex(builder, loc, value); }

  Value dim(Value shaped, int64_t dim) {
    if (isa<MemRefType>(shaped.getType()))
      return memref::DimOp::create(builder, loc, shaped, dim);
    return tensor::DimOp::create(builder, loc, shaped, dim);
  }

  /// An i32 element as an index.
  Value load(OpBuilder &b, Value shaped, ValueRange at) {
    Value element = isa<MemRefType>(shaped.getType())
                        ? Value(memref::LoadOp::create(b, loc, shaped, at))
                        : Value(tensor::ExtractOp::create(b, loc, shaped, at));
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), element);
  }

  Value compare(OpBuilder &b, arith::CmpIPredicate predicate, Value lhs,
                Value rhs) {
    return arith::CmpIOp::create(b, loc, predicate, lhs, rhs);
  }

  void check(OpBuilder &b, Value condition, StringRef what) {
    cf::AssertOp::create(b, loc, condition, message(op, what));
  }

  /// Asserts that dimension `dimA` of `a` equals `dimB` of `b`, unless both are
  /// static: those the verifier has compared.
  void sameSize(Value a, int64_t dimA, Value b, int64_t dimB, StringRef what) {
    if (!cast<ShapedType>(a.getType()).isDynamicDim(dimA) &&
        !cast<ShapedType>(b.getType()).isDynamicDim(dimB))
      return;
    check(
        builder,
        compare(builder, arith::CmpIPredicate::eq, dim(a, dimA), dim(b, dimB)),
        what);
  }

  /// Runs `body(builder, t, j)` for each element of a T×k operand.
  void forEachChoice(Value choices,
                     function_ref<void(OpBuilder &, Value, Value)> body) {
    Value zero = index(0), numTokens = dim(choices, 0), topK = dim(choices, 1);
    buildFor(builder, loc, zero, numTokens, {},
             [&](OpBuilder &b, Location l, Value t, ValueRange) -> Carried {
               buildFor(
                   b, l, zero, topK, {},
                   [&](OpBuilder &b, Location, Value j, ValueRange) -> Carried {
                     body(b, t, j);
                     return {};
                   });
               return {};
             });
  }

private:
  Operation *op;
};

/// 0 ≤ offsets[e] ≤ offsets[e + 1], and ≤ `numRows` where it is given.
void checkOffsets(Checks &c, Value offsets, Value numRows);

/// Slots are in [−1, M) and no two choices share a row. Only −1 means dropped:
/// other numbers outside [0, M) add 0 as well, but no dispatch makes them.
void checkSlots(Checks &c, Value slots, Value numRows);

/// The checks of moe.grouped_matmul.
void verifyAtRuntime(GroupedMatmulOp op, Checks &c);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_RUNTIMECHECKS_H
