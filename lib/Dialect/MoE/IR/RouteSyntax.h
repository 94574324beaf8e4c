//===- RouteSyntax.h - Syntax of moe.route ----------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The custom directives of its assembly format:
//
//   router(%x[t, k] * %w[e, k] : types)
//   extras(%b[e] : types)
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_IR_ROUTESYNTAX_H
#define LIB_DIALECT_MOE_IR_ROUTESYNTAX_H

#include "mlir/IR/OpImplementation.h"

namespace mlir::moe {

ParseResult parseRouter(OpAsmParser &parser, OpAsmParser::UnresolvedOperand &x,
                        Type &xType, OpAsmParser::UnresolvedOperand &router,
                        Type &routerType, ArrayAttr &maps);
void printRouter(OpAsmPrinter &printer, Operation *op, Value x, Type xType,
                 Value router, Type routerType, ArrayAttr maps);

ParseResult
parseRouteExtras(OpAsmParser &parser,
                 SmallVectorImpl<OpAsmParser::UnresolvedOperand> &extras,
                 SmallVectorImpl<Type> &types, ArrayAttr &maps);
void printRouteExtras(OpAsmPrinter &printer, Operation *op, OperandRange extras,
                      TypeRange types, ArrayAttr maps);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_IR_ROUTESYNTAX_H
