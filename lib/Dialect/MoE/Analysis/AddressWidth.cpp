//===- AddressWidth.cpp - Where 32 bits address an operand ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/AddressWidth.h"

#include "WeightUses.h"
#include "mlir/IR/Remarks.h"
#include "moe/Dialect/MoE/Analysis/SizeEvaluator.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;
using namespace mlir::moe;

static constexpr int64_t kLimit = int64_t(1) << 31;

static int64_t getElementBytes(Type type) {
  Type element = getElementTypeOrSelf(type);
  return element.isIntOrFloat()
             ? llvm::divideCeil(element.getIntOrFloatBitWidth(), 8)
             : 8;
}

/// Innermost dimensions first, for as long as they stay below 2^31 bytes.
static AddressWidth measure(Value operand, SizeEvaluator *evaluator) {
  auto type = cast<ShapedType>(operand.getType());
  AddressWidth width{operand, getElementBytes(type),
                     static_cast<unsigned>(type.getRank())};
  auto buffer = dyn_cast<MemRefType>(type);
  if (buffer && !buffer.getLayout().isIdentity()) {
    width.maxBytes = std::nullopt; // Strides may be anything.
    return width;
  }
  for (unsigned dim = type.getRank(); dim-- > 0;) {
    int64_t size = kLimit - 1;
    if (!type.isDynamicDim(dim))
      size = type.getDimSize(dim);
    else if (evaluator)
      size = std::min(size, evaluator->getSize(operand, dim).value_or(size));
    int64_t product;
    if (!width.maxBytes || llvm::MulOverflow(*width.maxBytes, size, product)) {
      width.maxBytes = std::nullopt;
      break;
    }
    width.maxBytes = product;
    if (product < kLimit && width.firstNarrow == dim + 1)
      width.firstNarrow = dim;
  }
  return width;
}

SmallVector<AddressWidth>
mlir::moe::computeAddressWidths(Operation *op, FunctionOpInterface function,
                                std::optional<int64_t> maxTokens) {
  WeightUses weights(function);
  SizeEvaluator evaluator([&](BlockArgument argument, unsigned dim) {
    bool isTokens = dim == 0 && !weights.isWeight(argument) &&
                    argument.getOwner()->getParentOp() == function;
    return isTokens ? maxTokens : std::nullopt;
  });
  SmallVector<AddressWidth> widths;
  llvm::SmallPtrSet<Value, 8> seen;
  for (Value operand : op->getOperands())
    if (isa<RankedTensorType, MemRefType>(operand.getType()) &&
        seen.insert(operand).second) {
      bool isTensor = isa<RankedTensorType>(operand.getType());
      widths.push_back(
          measure(operand, maxTokens && isTensor ? &evaluator : nullptr));
    }
  return widths;
}

/// "2048x1024xbf16": of which dimensions that are in a 64-bit base are in
/// parentheses, "(64x)2048x1024xbf16".
static std::string describe(const AddressWidth &width) {
  auto type = cast<ShapedType>(width.operand.getType());
  std::string text;
  llvm::raw_string_ostream os(text);
  os << (width.firstNarrow ? "(" : "");
  for (auto [dim, size] : llvm::enumerate(type.getShape())) {
    if (ShapedType::isDynamic(size))
      os << "?x";
    else
      os << size << 'x';
    if (dim + 1 == width.firstNarrow)
      os << ')';
  }
  os << type.getElementType();
  return text;
}

static std::string describeAll(Operation *op, FunctionOpInterface function,
                               std::optional<int64_t> maxTokens) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleaveComma(
      computeAddressWidths(op, function, maxTokens), os,
      [&](const AddressWidth &width) { os << describe(width); });
  return text;
}

void mlir::moe::remarkAddressWidths(FunctionOpInterface function,
                                    std::optional<int64_t> maxTokens,
                                    StringRef category) {
  function->walk([&](Operation *op) {
    if (!isa<RouteOp, GroupedMatmulOp>(op))
      return;
    remark::detail::InFlightRemark found = remark::analysis(
        op->getLoc(), remark::RemarkOpts::name("32-bit offsets")
                          .category(category)
                          .function(function.getName()));
    if (!found)
      return;
    std::string always = describeAll(op, function, std::nullopt);
    found << remark::add("any number of tokens: {0}", always);
    if (!maxTokens)
      return;
    std::string bounded = describeAll(op, function, maxTokens);
    found << remark::metric("tokens", *maxTokens)
          << remark::add("up to that many: {0}", bounded);
  });
}
