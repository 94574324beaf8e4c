//===- GroupedMatmulSyntax.cpp - Syntax of moe.grouped_matmul -------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GroupedMatmulSyntax.h"

#include "IndexedOperands.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
/// What the syntax of products fills.
struct ProductParser {
  OpAsmParser &parser;
  SmallVectorImpl<OpAsmParser::UnresolvedOperand> &factors;
  SmallVectorImpl<std::unique_ptr<Region>> &decodes;
  SmallVector<Attribute> maps = {};
  SmallVector<int32_t> termSizes = {}, productSizes = {};

  ParseResult parseFactor() {
    return parseIndexedOperand(parser, GroupedMatmulOp::getDimNames(),
                               factors.emplace_back(), maps.emplace_back());
  }

  ParseResult parseWeight() {
    auto &decode = decodes.emplace_back(std::make_unique<Region>());
    if (failed(parser.parseOptionalKeyword("decode")))
      return parseFactor();
    decode->emplaceBlock();
    return parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren,
                                          [&] { return parseFactor(); });
  }

  /// lhs * weight
  ParseResult parseTerm() {
    size_t before = factors.size();
    if (parseFactor() || parser.parseStar() || parseWeight())
      return failure();
    termSizes.push_back(factors.size() - before);
    ++productSizes.back();
    return success();
  }

  /// term + term …
  ParseResult parseProduct() {
    productSizes.push_back(0);
    do {
      if (parseTerm())
        return failure();
    } while (succeeded(parser.parseOptionalPlus()));
    return success();
  }
};
} // namespace

ParseResult mlir::moe::parseProducts(
    OpAsmParser &parser,
    SmallVectorImpl<OpAsmParser::UnresolvedOperand> &factors,
    SmallVectorImpl<Type> &types, ArrayAttr &maps, DenseI32ArrayAttr &termSizes,
    DenseI32ArrayAttr &productSizes,
    SmallVectorImpl<std::unique_ptr<Region>> &decodes) {
  ProductParser products{parser, factors, decodes};
  if (parser.parseKeyword("products") || parser.parseLParen() ||
      parser.parseCommaSeparatedList([&] { return products.parseProduct(); }) ||
      parser.parseColonTypeList(types) || parser.parseRParen())
    return failure();
  Builder &builder = parser.getBuilder();
  maps = builder.getArrayAttr(products.maps);
  termSizes = builder.getDenseI32ArrayAttr(products.termSizes);
  productSizes = builder.getDenseI32ArrayAttr(products.productSizes);
  return success();
}

void mlir::moe::printProducts(OpAsmPrinter &printer, Operation *op,
                              OperandRange factors, TypeRange types, ArrayAttr,
                              DenseI32ArrayAttr, DenseI32ArrayAttr,
                              RegionRange) {
  auto print = [&](Value value, AffineMap map) {
    printIndexedOperand(printer, value, map, GroupedMatmulOp::getDimNames());
  };
  auto printTerm = [&](const GroupedMatmulOp::Term &term) {
    print(term.lhs, term.lhsMap);
    printer << (term.decode ? " * decode(" : " * ");
    llvm::interleaveComma(
        llvm::zip(term.stored, term.storedMaps), printer,
        [&](auto pair) { print(std::get<0>(pair), std::get<1>(pair)); });
    printer << (term.decode ? ")" : "");
  };
  printer << "products(";
  llvm::interleaveComma(cast<GroupedMatmulOp>(op).getProducts(), printer,
                        [&](const GroupedMatmulOp::Product &product) {
                          llvm::interleave(product, printer, printTerm, " + ");
                        });
  printer << " : " << types << ')';
}

ParseResult
mlir::moe::parseDecodes(OpAsmParser &parser,
                        SmallVectorImpl<std::unique_ptr<Region>> &decodes) {
  for (std::unique_ptr<Region> &decode : decodes) {
    if (decode->empty())
      continue;
    decode->getBlocks().clear();
    if (parser.parseKeyword("decode") || parser.parseRegion(*decode))
      return failure();
  }
  return success();
}

void mlir::moe::printDecodes(OpAsmPrinter &printer, Operation *,
                             RegionRange decodes) {
  for (Region *decode : decodes) {
    if (decode->empty())
      continue;
    printer << " decode ";
    printer.printRegion(*decode);
  }
}

ParseResult
mlir::moe::parseExtras(OpAsmParser &parser,
                       SmallVectorImpl<OpAsmParser::UnresolvedOperand> &extras,
                       SmallVectorImpl<Type> &types, ArrayAttr &maps) {
  return parseIndexedOperands(parser, GroupedMatmulOp::getDimNames(), extras,
                              types, maps);
}

void mlir::moe::printExtras(OpAsmPrinter &printer, Operation *,
                            OperandRange extras, TypeRange, ArrayAttr maps) {
  printIndexedOperands(printer, GroupedMatmulOp::getDimNames(), extras, maps);
}
