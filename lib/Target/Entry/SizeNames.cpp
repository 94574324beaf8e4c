//===- SizeNames.cpp - Sizes of tensors in words ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EntryShapes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// An expression as text; `isSum` says that it needs parentheses as a factor.
struct Text {
  std::string text;
  bool isSum = false;

  std::string asFactor() const { return isSum ? "(" + text + ")" : text; }
};

/// Prints what @NAME.shapes returns in terms of the names of its arguments.
class SizePrinter {
public:
  explicit SizePrinter(func::FuncOp shapes) : shapes(shapes) {}

  Text print(Value size);
  StringRef getArgumentName(unsigned i) {
    return shapes.getArgAttrOfType<StringAttr>(i, kNameAttr).getValue();
  }

private:
  Text print(AffineExpr expr, ValueRange dims, ValueRange symbols);
  Text printCall(Operation *op);

  func::FuncOp shapes;
};

} // namespace

static Text makeBinary(const Text &lhs, StringRef op, const Text &rhs) {
  if (op == "+")
    return {lhs.text + " + " + rhs.text, true};
  if (op == "-")
    return {lhs.text + " - " + rhs.asFactor(), true};
  return {lhs.asFactor() + " " + op.str() + " " + rhs.asFactor(), op != "*"};
}

/// Anything else: "max(T, 4)".
Text SizePrinter::printCall(Operation *op) {
  StringRef name = op->getName().stripDialect();
  if (isa<arith::MaxSIOp, arith::MaxUIOp>(op))
    name = "max";
  else if (isa<arith::MinSIOp, arith::MinUIOp>(op))
    name = "min";
  else if (isa<arith::CeilDivSIOp, arith::CeilDivUIOp>(op))
    name = "ceildiv";
  std::string text = name.str() + "(";
  llvm::interleave(
      op->getOperands(), [&](Value operand) { text += print(operand).text; },
      [&] { text += ", "; });
  return {text + ")"};
}

Text SizePrinter::print(AffineExpr expr, ValueRange dims, ValueRange symbols) {
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return print(dims[dim.getPosition()]);
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return print(symbols[symbol.getPosition()]);
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return {std::to_string(constant.getValue())};
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Text lhs = print(binary.getLHS(), dims, symbols);
  Text rhs = print(binary.getRHS(), dims, symbols);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return makeBinary(lhs, "+", rhs);
  case AffineExprKind::Mul:
    return makeBinary(lhs, "*", rhs);
  case AffineExprKind::Mod:
    return makeBinary(lhs, "%", rhs);
  case AffineExprKind::FloorDiv:
    return makeBinary(lhs, "/", rhs);
  default:
    return {"ceildiv(" + lhs.text + ", " + rhs.text + ")"};
  }
}

Text SizePrinter::print(Value size) {
  if (auto argument = dyn_cast<BlockArgument>(size))
    return {getArgumentName(argument.getArgNumber()).str()};
  if (std::optional<int64_t> constant = getConstantIntValue(size))
    return {*constant < 0 ? "?" : std::to_string(*constant)};
  Operation *op = size.getDefiningOp();
  if (auto apply = dyn_cast<affine::AffineApplyOp>(op))
    return print(apply.getAffineMap().getResult(0), apply.getDimOperands(),
                 apply.getSymbolOperands());
  StringRef sign = isa<arith::AddIOp>(op)    ? "+"
                   : isa<arith::SubIOp>(op)  ? "-"
                   : isa<arith::MulIOp>(op)  ? "*"
                   : isa<arith::DivUIOp>(op) ? "/"
                   : isa<arith::RemUIOp>(op) ? "%"
                                             : "";
  if (sign.empty())
    return printCall(op);
  return makeBinary(print(op->getOperand(0)), sign, print(op->getOperand(1)));
}

std::string mlir::moe::printSize(func::FuncOp shapes, Value size) {
  return SizePrinter(shapes).print(size).text;
}

void mlir::moe::nameSizes(func::FuncOp shapes, EntrySignature &signature) {
  SizePrinter printer(shapes);
  unsigned numDynamic = 0;
  for (EntryTensor &argument : signature.arguments) {
    argument.sizeNames.clear();
    for (int64_t size : argument.shape)
      argument.sizeNames.push_back(
          ShapedType::isDynamic(size)
              ? printer.getArgumentName(numDynamic++).str()
              : std::to_string(size));
  }
  // The status comes first.
  ValueRange sizes =
      shapes.getBody().front().getTerminator()->getOperands().drop_front();
  for (EntryTensor &result : signature.results) {
    result.sizeNames.clear();
    for (size_t i = 0; i < result.shape.size(); ++i) {
      result.sizeNames.push_back(printer.print(sizes.front()).text);
      sizes = sizes.drop_front();
    }
  }
}
