//===- GroupedMatmulSyntax.h - Syntax of moe.grouped_matmul -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The custom directives of its assembly format:
//
//   products(%x[t, k] * %w[e, n, k] + %l[m, k] * decode(%q[…], %s[…]) : types)
//   extras(%b[e, n] : types)
//   decode { … }      after the epilogue, one for each decode(…), in order
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_IR_GROUPEDMATMULSYNTAX_H
#define LIB_DIALECT_MOE_IR_GROUPEDMATMULSYNTAX_H

#include "mlir/IR/OpImplementation.h"

namespace mlir::moe {

/// Creates a region for each term: empty where the weight is read as it is,
/// with a block to replace where it is decoded.
ParseResult
parseProducts(OpAsmParser &parser,
              SmallVectorImpl<OpAsmParser::UnresolvedOperand> &factors,
              SmallVectorImpl<Type> &types, ArrayAttr &maps,
              DenseI32ArrayAttr &termSizes, DenseI32ArrayAttr &productSizes,
              SmallVectorImpl<std::unique_ptr<Region>> &decodes);
void printProducts(OpAsmPrinter &printer, Operation *op, OperandRange factors,
                   TypeRange types, ArrayAttr maps, DenseI32ArrayAttr termSizes,
                   DenseI32ArrayAttr productSizes, RegionRange decodes);

/// Parses the regions of the terms that parseProducts saw a decode in.
ParseResult parseDecodes(OpAsmParser &parser,
                         SmallVectorImpl<std::unique_ptr<Region>> &decodes);
void printDecodes(OpAsmPrinter &printer, Operation *op, RegionRange decodes);

ParseResult parseExtras(OpAsmParser &parser,
                        SmallVectorImpl<OpAsmParser::UnresolvedOperand> &extras,
                        SmallVectorImpl<Type> &types, ArrayAttr &maps);
void printExtras(OpAsmPrinter &printer, Operation *op, OperandRange extras,
                 TypeRange types, ArrayAttr maps);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_IR_GROUPEDMATMULSYNTAX_H
