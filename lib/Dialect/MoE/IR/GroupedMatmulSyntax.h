//===- GroupedMatmulSyntax.h - Syntax of moe.grouped_matmul -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The custom directives of its assembly format:
//
//   products(%x[t, k] * %w[e, n, k] + prologue(%l[m, k], %r[m]) * decode(%q[…])
//            : types)
//   extras(%b[e, n] : types)
//   prologue { … } decode { … }
//                     after the epilogue, one for each in the products, in
//                     order
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_IR_GROUPEDMATMULSYNTAX_H
#define LIB_DIALECT_MOE_IR_GROUPEDMATMULSYNTAX_H

#include "mlir/IR/OpImplementation.h"

namespace mlir::moe {

/// Creates two regions for each term, of its lhs and of its weight: empty where
/// that is read as it is, with a block to replace where it is computed.
ParseResult
parseProducts(OpAsmParser &parser,
              SmallVectorImpl<OpAsmParser::UnresolvedOperand> &factors,
              SmallVectorImpl<Type> &types, ArrayAttr &maps,
              DenseI32ArrayAttr &termSizes, DenseI32ArrayAttr &lhsSizes,
              DenseI32ArrayAttr &productSizes,
              SmallVectorImpl<std::unique_ptr<Region>> &regions);
void printProducts(OpAsmPrinter &printer, Operation *op, OperandRange factors,
                   TypeRange types, ArrayAttr maps, DenseI32ArrayAttr termSizes,
                   DenseI32ArrayAttr lhsSizes, DenseI32ArrayAttr productSizes,
                   RegionRange regions);

/// Parses the regions that parseProducts saw a prologue or decode for.
ParseResult
parseFactorRegions(OpAsmParser &parser,
                   SmallVectorImpl<std::unique_ptr<Region>> &regions,
                   Region &epilogue);
void printFactorRegions(OpAsmPrinter &printer, Operation *op,
                        RegionRange regions, Region &epilogue);

ParseResult parseExtras(OpAsmParser &parser,
                        SmallVectorImpl<OpAsmParser::UnresolvedOperand> &extras,
                        SmallVectorImpl<Type> &types, ArrayAttr &maps);
void printExtras(OpAsmPrinter &printer, Operation *op, OperandRange extras,
                 TypeRange types, ArrayAttr maps);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_IR_GROUPEDMATMULSYNTAX_H
