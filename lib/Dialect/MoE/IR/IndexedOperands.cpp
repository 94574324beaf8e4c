//===- IndexedOperands.cpp - Operands with index expressions --------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "IndexedOperands.h"

#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

ParseResult mlir::moe::parseIndexedOperand(
    OpAsmParser &parser, ArrayRef<StringRef> dimNames,
    OpAsmParser::UnresolvedOperand &operand, Attribute &map) {
  MLIRContext *context = parser.getContext();
  SmallVector<std::pair<StringRef, AffineExpr>> dims;
  for (auto [i, name] : llvm::enumerate(dimNames))
    dims.emplace_back(name, getAffineDimExpr(i, context));
  SmallVector<AffineExpr> exprs;
  if (parser.parseOperand(operand) ||
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, [&] {
        return parser.parseAffineExpr(dims, exprs.emplace_back());
      }))
    return failure();
  map = AffineMapAttr::get(AffineMap::get(dimNames.size(), 0, exprs, context));
  return success();
}

static StringRef binarySpelling(AffineExprKind kind) {
  switch (kind) {
  case AffineExprKind::Add:
    return " + ";
  case AffineExprKind::Mul:
    return " * ";
  case AffineExprKind::Mod:
    return " mod ";
  case AffineExprKind::FloorDiv:
    return " floordiv ";
  case AffineExprKind::CeilDiv:
    return " ceildiv ";
  default:
    llvm_unreachable("not a binary expression");
  }
}

/// An operand of * or mod: sums need parentheses there.
static void printFactor(raw_ostream &os, AffineExpr expr,
                        ArrayRef<StringRef> dimNames) {
  bool isBinary = isa<AffineBinaryOpExpr>(expr);
  os << (isBinary ? "(" : "");
  printIndexExpr(os, expr, dimNames);
  os << (isBinary ? ")" : "");
}

void mlir::moe::printIndexExpr(raw_ostream &os, AffineExpr expr,
                               ArrayRef<StringRef> dimNames) {
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    os << dimNames[dim.getPosition()];
    return;
  }
  if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
    os << constant.getValue();
    return;
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary) { // A symbol, in IR that does not verify.
    os << expr;
    return;
  }
  bool isSum = binary.getKind() == AffineExprKind::Add;
  auto printSide = isSum ? printIndexExpr : printFactor;
  printSide(os, binary.getLHS(), dimNames);
  os << binarySpelling(binary.getKind());
  printSide(os, binary.getRHS(), dimNames);
}

void mlir::moe::printIndexedOperand(OpAsmPrinter &printer, Value value,
                                    AffineMap map,
                                    ArrayRef<StringRef> dimNames) {
  printer << value << '[';
  llvm::interleaveComma(map.getResults(), printer, [&](AffineExpr expr) {
    printIndexExpr(printer.getStream(), expr, dimNames);
  });
  printer << ']';
}

ParseResult mlir::moe::parseIndexedOperands(
    OpAsmParser &parser, ArrayRef<StringRef> dimNames,
    SmallVectorImpl<OpAsmParser::UnresolvedOperand> &operands,
    SmallVectorImpl<Type> &types, ArrayAttr &maps) {
  SmallVector<Attribute> mapList;
  if (parser.parseCommaSeparatedList([&] {
        return parseIndexedOperand(parser, dimNames, operands.emplace_back(),
                                   mapList.emplace_back());
      }) ||
      parser.parseColonTypeList(types))
    return failure();
  maps = parser.getBuilder().getArrayAttr(mapList);
  return success();
}

void mlir::moe::printIndexedOperands(OpAsmPrinter &printer,
                                     ArrayRef<StringRef> dimNames,
                                     OperandRange operands, ArrayAttr maps) {
  llvm::interleaveComma(llvm::zip(operands, maps), printer, [&](auto pair) {
    printIndexedOperand(printer, std::get<0>(pair),
                        cast<AffineMapAttr>(std::get<1>(pair)).getValue(),
                        dimNames);
  });
  printer << " : " << operands.getTypes();
}

std::optional<int64_t> mlir::moe::largestIndex(AffineExpr expr,
                                               ArrayRef<int64_t> extents) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return constant.getValue();
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    int64_t extent = extents[dim.getPosition()];
    if (ShapedType::isDynamic(extent))
      return std::nullopt;
    return std::max<int64_t>(extent - 1, 0);
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return std::nullopt;
  auto divisor = dyn_cast<AffineConstantExpr>(binary.getRHS());
  if (binary.getKind() == AffineExprKind::Mod && divisor &&
      divisor.getValue() > 0) {
    int64_t most = divisor.getValue() - 1;
    std::optional<int64_t> left = largestIndex(binary.getLHS(), extents);
    return left && *left >= 0 ? std::min(*left, most) : most;
  }
  std::optional<int64_t> left = largestIndex(binary.getLHS(), extents);
  std::optional<int64_t> right = largestIndex(binary.getRHS(), extents);
  if (!left || !right)
    return std::nullopt;
  int64_t result;
  switch (binary.getKind()) {
  case AffineExprKind::Add:
    if (llvm::AddOverflow(*left, *right, result))
      return std::nullopt;
    return result;
  case AffineExprKind::Mul:
    if (*right < 0 || llvm::MulOverflow(*left, *right, result))
      return std::nullopt;
    return result;
  case AffineExprKind::FloorDiv:
    if (*right <= 0)
      return std::nullopt;
    return llvm::divideFloorSigned(*left, *right);
  case AffineExprKind::CeilDiv:
    if (*right <= 0)
      return std::nullopt;
    return llvm::divideCeilSigned(*left, *right);
  default:
    return std::nullopt;
  }
}
