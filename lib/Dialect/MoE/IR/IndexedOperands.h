//===- IndexedOperands.h - Operands with index expressions ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The syntax `%w[e, 2 * n + 1, k]`: a value and an affine map from dimensions
// that the op names.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_IR_INDEXEDOPERANDS_H
#define LIB_DIALECT_MOE_IR_INDEXEDOPERANDS_H

#include "mlir/IR/OpImplementation.h"

namespace mlir::moe {

/// Parses `%value[expr, …]` over `dimNames`.
ParseResult parseIndexedOperand(OpAsmParser &parser,
                                ArrayRef<StringRef> dimNames,
                                OpAsmParser::UnresolvedOperand &operand,
                                Attribute &map);

void printIndexedOperand(OpAsmPrinter &printer, Value value, AffineMap map,
                         ArrayRef<StringRef> dimNames);

/// Writes an index expression as the syntax has it.
void printIndexExpr(raw_ostream &os, AffineExpr expr,
                    ArrayRef<StringRef> dimNames);

/// Parses `%value[expr, …], … : types`.
ParseResult
parseIndexedOperands(OpAsmParser &parser, ArrayRef<StringRef> dimNames,
                     SmallVectorImpl<OpAsmParser::UnresolvedOperand> &operands,
                     SmallVectorImpl<Type> &types, ArrayAttr &maps);

void printIndexedOperands(OpAsmPrinter &printer, ArrayRef<StringRef> dimNames,
                          OperandRange operands, ArrayAttr maps);

/// The smallest and the largest value of an index expression; none where it
/// cannot be told.
struct IndexRange {
  std::optional<int64_t> smallest, largest;
};

/// Bounds of `expr` where dimension i runs over [0, extents[i]); a dynamic
/// extent is any number.
IndexRange indexRange(AffineExpr expr, ArrayRef<int64_t> extents);

/// Checks that `map` divides by positive numbers only, and that no expression
/// of it is known to leave its dimension of `operand`.
LogicalResult verifyIndexBounds(Operation *op, Value operand, AffineMap map,
                                ArrayRef<int64_t> extents,
                                ArrayRef<StringRef> dimNames);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_IR_INDEXEDOPERANDS_H
