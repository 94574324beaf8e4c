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

#include <limits>

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
  auto addend = dyn_cast<AffineConstantExpr>(binary.getRHS());
  if (isSum && addend && addend.getValue() < 0 &&
      addend.getValue() != std::numeric_limits<int64_t>::min()) {
    printIndexExpr(os, binary.getLHS(), dimNames);
    os << " - " << -addend.getValue();
    return;
  }
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

/// f of the bounds; none where there is none, or where f overflows.
template <typename Fn>
static std::optional<int64_t> bound(std::optional<int64_t> value, Fn f) {
  return value ? f(*value) : std::nullopt;
}

/// The range of `range` * `factor`.
static IndexRange scaled(IndexRange range, int64_t factor) {
  auto times = [&](int64_t value) -> std::optional<int64_t> {
    int64_t result;
    if (llvm::MulOverflow(value, factor, result))
      return std::nullopt;
    return result;
  };
  if (factor < 0)
    std::swap(range.smallest, range.largest);
  return {bound(range.smallest, times), bound(range.largest, times)};
}

static std::optional<int64_t> addBounds(std::optional<int64_t> a,
                                        std::optional<int64_t> b) {
  int64_t result;
  if (!a || !b || llvm::AddOverflow(*a, *b, result))
    return std::nullopt;
  return result;
}

IndexRange mlir::moe::indexRange(AffineExpr expr, ArrayRef<int64_t> extents) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return {constant.getValue(), constant.getValue()};
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    int64_t extent = extents[dim.getPosition()];
    if (ShapedType::isDynamic(extent))
      return {0, std::nullopt};
    return {0, std::max<int64_t>(extent - 1, 0)};
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary) // A symbol, in IR that does not verify.
    return {};
  IndexRange left = indexRange(binary.getLHS(), extents);
  if (binary.getKind() == AffineExprKind::Add) {
    IndexRange right = indexRange(binary.getRHS(), extents);
    return {addBounds(left.smallest, right.smallest),
            addBounds(left.largest, right.largest)};
  }
  auto constant = dyn_cast<AffineConstantExpr>(binary.getRHS());
  if (!constant)
    return {};
  int64_t right = constant.getValue();
  if (binary.getKind() == AffineExprKind::Mul)
    return scaled(left, right);
  if (right <= 0)
    return {};
  if (binary.getKind() == AffineExprKind::Mod) {
    bool isSmall = left.smallest && *left.smallest >= 0 && left.largest &&
                   *left.largest < right;
    return isSmall ? left : IndexRange{0, right - 1};
  }
  bool isFloor = binary.getKind() == AffineExprKind::FloorDiv;
  auto divide = [&](int64_t value) -> std::optional<int64_t> {
    return isFloor ? llvm::divideFloorSigned(value, right)
                   : llvm::divideCeilSigned(value, right);
  };
  return {bound(left.smallest, divide), bound(left.largest, divide)};
}

/// True if no part of `expr` divides by a number that is not positive: such an
/// index has no value, and nothing lowers it.
static bool dividesByPositive(AffineExpr expr) {
  return !expr.walk([](AffineExpr part) {
                auto binary = dyn_cast<AffineBinaryOpExpr>(part);
                if (!binary || binary.getKind() == AffineExprKind::Add ||
                    binary.getKind() == AffineExprKind::Mul)
                  return WalkResult::advance();
                auto divisor = dyn_cast<AffineConstantExpr>(binary.getRHS());
                return divisor && divisor.getValue() > 0
                           ? WalkResult::advance()
                           : WalkResult::interrupt();
              })
              .wasInterrupted();
}

LogicalResult mlir::moe::verifyIndexBounds(Operation *op, Value operand,
                                           AffineMap map,
                                           ArrayRef<int64_t> extents,
                                           ArrayRef<StringRef> dimNames) {
  auto str = [&](AffineExpr expr) {
    std::string text;
    llvm::raw_string_ostream os(text);
    printIndexExpr(os, expr, dimNames);
    return text;
  };
  for (AffineExpr expr : map.getResults())
    if (!dividesByPositive(expr))
      return op->emitOpError("index '")
             << str(expr) << "' divides by a number that is not positive";
  if (llvm::is_contained(extents, 0))
    return success();
  auto type = cast<ShapedType>(operand.getType());
  for (auto [dim, expr] : llvm::enumerate(map.getResults())) {
    IndexRange range = indexRange(expr, extents);
    if (range.smallest && *range.smallest < 0)
      return op->emitOpError("index '")
             << str(expr) << "' falls to " << *range.smallest
             << ", but dimension " << dim << " of " << type << " starts at 0";
    if (!type.isDynamicDim(dim) && range.largest &&
        *range.largest >= type.getDimSize(dim))
      return op->emitOpError("index '")
             << str(expr) << "' reaches " << *range.largest
             << ", but dimension " << dim << " of " << type << " has "
             << type.getDimSize(dim) << " elements";
  }
  return success();
}
