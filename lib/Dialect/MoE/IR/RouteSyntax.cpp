//===- RouteSyntax.cpp - Syntax of moe.route ------------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RouteSyntax.h"

#include "IndexedOperands.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;

ParseResult mlir::moe::parseRouter(OpAsmParser &parser,
                                   OpAsmParser::UnresolvedOperand &x,
                                   Type &xType,
                                   OpAsmParser::UnresolvedOperand &router,
                                   Type &routerType, ArrayAttr &maps) {
  Attribute xMap, routerMap;
  if (parseIndexedOperand(parser, RouteOp::getDimNames(), x, xMap) ||
      parser.parseStar() ||
      parseIndexedOperand(parser, RouteOp::getDimNames(), router, routerMap) ||
      parser.parseColonType(xType) || parser.parseComma() ||
      parser.parseType(routerType))
    return failure();
  maps = parser.getBuilder().getArrayAttr({xMap, routerMap});
  return success();
}

void mlir::moe::printRouter(OpAsmPrinter &printer, Operation *, Value x,
                            Type xType, Value router, Type routerType,
                            ArrayAttr maps) {
  auto print = [&](Value value, Attribute map) {
    printIndexedOperand(printer, value, cast<AffineMapAttr>(map).getValue(),
                        RouteOp::getDimNames());
  };
  print(x, maps[0]);
  printer << " * ";
  print(router, maps[1]);
  printer << " : " << xType << ", " << routerType;
}

ParseResult mlir::moe::parseRouteExtras(
    OpAsmParser &parser,
    SmallVectorImpl<OpAsmParser::UnresolvedOperand> &extras,
    SmallVectorImpl<Type> &types, ArrayAttr &maps) {
  return parseIndexedOperands(parser, RouteOp::getDimNames(), extras, types,
                              maps);
}

void mlir::moe::printRouteExtras(OpAsmPrinter &printer, Operation *,
                                 OperandRange extras, TypeRange,
                                 ArrayAttr maps) {
  printIndexedOperands(printer, RouteOp::getDimNames(), extras, maps);
}
