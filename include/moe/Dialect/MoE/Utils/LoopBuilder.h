//===- LoopBuilder.h - Structured loops in a few words -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_LOOPBUILDER_H
#define MOE_DIALECT_MOE_UTILS_LOOPBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/ValueRange.h"

namespace mlir::moe {

/// What a loop carries from one iteration to the next.
using Carried = SmallVector<Value>;

/// Builds `for (iv = lower; iv < upper; iv += step)`. `body` gets the values
/// carried in and returns those carried out; the loop's results are returned.
/// A null `step` is 1.
Carried
buildFor(OpBuilder &builder, Location loc, Value lower, Value upper,
         ValueRange inits,
         function_ref<Carried(OpBuilder &, Location, Value, ValueRange)> body,
         Value step = {});

/// The same loop where nothing is carried: `body` gets iv.
void buildLoop(OpBuilder &builder, Location loc, Value lower, Value upper,
               Value step, function_ref<void(OpBuilder &, Value)> body);

/// Builds `if (condition) …; else …`; both branches return values of the same
/// types. A null `elseBody` returns nothing and needs a `thenBody` that does
/// the same.
Carried buildIf(OpBuilder &builder, Location loc, Value condition,
                function_ref<Carried(OpBuilder &, Location)> thenBody,
                function_ref<Carried(OpBuilder &, Location)> elseBody = {});

/// Constants and comparisons that read like the formula they stand for.
/// Floating point constants take the type given; `like` may be a vector.
Value buildIndex(OpBuilder &builder, Location loc, int64_t value);
Value buildI32(OpBuilder &builder, Location loc, int32_t value);
Value buildFloat(OpBuilder &builder, Location loc, Type like, double value);

/// A scalar or vector of floats, extended to f32 where it is narrower.
Value buildExtensionToF32(OpBuilder &builder, Location loc, Value value);

/// The element of a tensor or a buffer at the indices `at`.
Value buildElementRead(OpBuilder &builder, Location loc, Value values,
                       ValueRange at);

/// The element of a tensor or a buffer that `map` names where its dimensions
/// are `dims`.
Value buildRead(OpBuilder &builder, Location loc, Value values, AffineMap map,
                ValueRange dims);

/// Copies what is in `region`, of one block, and returns what it yields for
/// `arguments`.
Carried inlineRegion(OpBuilder &builder, Region &region, ValueRange arguments);

/// What loops do with single elements, for a class that builds its code at one
/// location.
class ElementBuilder {
protected:
  explicit ElementBuilder(Location loc) : loc(loc) {}

  Value extract(OpBuilder &b, Value tensor, ValueRange at) const;
  /// `tensor` with `value` at `at`.
  Value insert(OpBuilder &b, Value value, Value tensor, ValueRange at) const;
  /// A tensor of one dimension with any values.
  Value emptyRow(OpBuilder &b, Type type, Value size) const;
  Value compare(OpBuilder &b, arith::CmpIPredicate predicate, Value lhs,
                Value rhs) const;
  Value compare(OpBuilder &b, arith::CmpFPredicate predicate, Value lhs,
                Value rhs) const;
  Value both(OpBuilder &b, Value lhs, Value rhs) const;
  Value either(OpBuilder &b, Value lhs, Value rhs) const;
  Value select(OpBuilder &b, Value condition, Value lhs, Value rhs) const;
  Value toIndex(OpBuilder &b, Value id) const;
  Value toI32(OpBuilder &b, Value index) const;

  Location loc;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_LOOPBUILDER_H
