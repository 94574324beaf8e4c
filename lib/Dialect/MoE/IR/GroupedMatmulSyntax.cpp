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

/// The keyword of factor region `i`.
static StringRef keywordOf(size_t i) { return i % 2 ? "decode" : "prologue"; }

namespace {
/// What the syntax of products fills.
struct ProductParser {
  OpAsmParser &parser;
  SmallVectorImpl<OpAsmParser::UnresolvedOperand> &factors;
  SmallVectorImpl<std::unique_ptr<Region>> &regions;
  SmallVector<Attribute> maps = {};
  SmallVector<int32_t> termSizes = {}, lhsSizes = {}, productSizes = {};

  ParseResult parseFactor() {
    return parseIndexedOperand(parser, GroupedMatmulOp::getDimNames(),
                               factors.emplace_back(), maps.emplace_back());
  }

  /// %x[…], or, where a region computes it, its keyword(%x[…], …)
  ParseResult parseSide() {
    StringRef keyword = keywordOf(regions.size());
    auto &region = regions.emplace_back(std::make_unique<Region>());
    if (failed(parser.parseOptionalKeyword(keyword)))
      return parseFactor();
    region->emplaceBlock();
    return parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren,
                                          [&] { return parseFactor(); });
  }

  /// lhs * weight, each as it is or computed
  ParseResult parseTerm() {
    size_t before = factors.size();
    if (parseSide())
      return failure();
    lhsSizes.push_back(factors.size() - before);
    if (parser.parseStar() || parseSide())
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
    DenseI32ArrayAttr &lhsSizes, DenseI32ArrayAttr &productSizes,
    SmallVectorImpl<std::unique_ptr<Region>> &regions) {
  ProductParser products{parser, factors, regions};
  if (parser.parseKeyword("products") || parser.parseLParen() ||
      parser.parseCommaSeparatedList([&] { return products.parseProduct(); }) ||
      parser.parseColonTypeList(types) || parser.parseRParen())
    return failure();
  Builder &builder = parser.getBuilder();
  maps = builder.getArrayAttr(products.maps);
  termSizes = builder.getDenseI32ArrayAttr(products.termSizes);
  lhsSizes = builder.getDenseI32ArrayAttr(products.lhsSizes);
  productSizes = builder.getDenseI32ArrayAttr(products.productSizes);
  return success();
}

void mlir::moe::printProducts(OpAsmPrinter &printer, Operation *op,
                              OperandRange factors, TypeRange types, ArrayAttr,
                              DenseI32ArrayAttr, DenseI32ArrayAttr,
                              DenseI32ArrayAttr, RegionRange) {
  auto print = [&](Value value, AffineMap map) {
    printIndexedOperand(printer, value, map, GroupedMatmulOp::getDimNames());
  };
  auto printTerm = [&](const GroupedMatmulOp::Term &term) {
    printer << (term.prologue ? "prologue(" : "");
    print(term.lhs, term.lhsMap);
    for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps)) {
      printer << ", ";
      print(extra, map);
    }
    printer << (term.prologue ? ") * " : " * ")
            << (term.decode ? "decode(" : "");
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

/// Values of a region may be used outside, wrongly, before it: such a use must
/// not outlive a region that goes with the failure. What generated parsers have
/// moved into the state of an op upstream cleans.
static void dropUses(Region &region) {
  for (Block &block : region)
    block.dropAllDefinedValueUses();
}

ParseResult
mlir::moe::parseFactorRegions(OpAsmParser &parser,
                              SmallVectorImpl<std::unique_ptr<Region>> &regions,
                              Region &epilogue) {
  for (auto [i, region] : llvm::enumerate(regions)) {
    if (region->empty())
      continue;
    region->getBlocks().clear();
    if (parser.parseKeyword(keywordOf(i)) || parser.parseRegion(*region)) {
      dropUses(epilogue);
      for (auto &parsed : regions)
        dropUses(*parsed);
      return failure();
    }
  }
  return success();
}

void mlir::moe::printFactorRegions(OpAsmPrinter &printer, Operation *,
                                   RegionRange regions, Region &) {
  for (auto [i, region] : llvm::enumerate(regions)) {
    if (region->empty())
      continue;
    printer << ' ' << keywordOf(i) << ' ';
    printer.printRegion(*region);
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
