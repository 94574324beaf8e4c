//===- DeviceRegion.cpp - A scalar region of an op in a kernel ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceRegion.h"

#include "DeviceMath.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Transforms/RegionUtils.h"
#include "moe/Dialect/MoE/Utils/DecidingMath.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Analysis
//===----------------------------------------------------------------------===//

llvm::Error mlir::moe::checkLayout(Value buffer) {
  auto type = cast<ShapedType>(buffer.getType());
  auto memref = dyn_cast<MemRefType>(type);
  bool isDefault = !memref || memref.getLayout().isIdentity();
  if (isDefault && llvm::none_of(type.getShape().drop_front(
                                     std::min<size_t>(type.getRank(), 1)),
                                 ShapedType::isDynamic))
    return llvm::Error::success();
  return llvm::createStringError(
      llvm::formatv("a kernel takes buffers in the default layout with static "
                    "sizes, the first apart, not {0}",
                    type));
}

static bool hasNegativePart(AffineMap map) {
  bool found = false;
  map.walkExprs([&](AffineExpr expr) {
    auto constant = dyn_cast<AffineConstantExpr>(expr);
    found |= constant && constant.getValue() < 0;
  });
  return found;
}

llvm::Expected<DeviceRegion> mlir::moe::analyzeRegion(Region &region,
                                                      ValueRange extras,
                                                      ArrayAttr maps,
                                                      StringRef name) {
  DeviceRegion result;
  if (region.empty())
    return result;
  result.region = &region;
  if (Operation *op = findOpWithoutDeviceCode(region))
    return llvm::createStringError(
        llvm::formatv("'{0}' in the region '{1}' has no code for GPUs; use ops "
                      "of arith and math that it has, on types of at most 32 "
                      "bits",
                      op->getName(), name));
  for (auto [extra, map] :
       llvm::zip(extras, maps.getAsValueRange<AffineMapAttr>())) {
    if (llvm::Error error = checkLayout(extra))
      return error;
    Type element = cast<ShapedType>(extra.getType()).getElementType();
    if (!element.isIntOrFloat() || element.getIntOrFloatBitWidth() % 8 != 0)
      return llvm::createStringError(llvm::formatv(
          "an extra of the region '{0}' has elements of {1}; a kernel reads "
          "numbers of whole bytes",
          name, element));
    if (hasNegativePart(map))
      return llvm::createStringError(llvm::formatv(
          "an extra of the region '{0}' is indexed with a negative number; "
          "take a slice of it",
          name));
    result.extras.push_back(extra);
    result.maps.push_back(map);
  }
  llvm::SetVector<Value> above;
  getUsedValuesDefinedAbove(region, above);
  for (Value value : above) {
    if (matchPattern(value, m_Constant()))
      continue;
    if (!value.getType().isIntOrFloat())
      return llvm::createStringError(
          llvm::formatv("the region '{0}' uses a {1} from above; make it an "
                        "extra",
                        name, value.getType()));
    result.scalars.push_back(value);
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Code
//===----------------------------------------------------------------------===//

/// `expr` of numbers that are not negative, without negative constants.
static Value evaluate(KernelBuilder &b, AffineExpr expr, ArrayRef<Value> dims) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return b.i64(constant.getValue());
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return dims[dim.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Value lhs = evaluate(b, binary.getLHS(), dims);
  Value rhs = evaluate(b, binary.getRHS(), dims);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return b.add(lhs, rhs);
  case AffineExprKind::Mul:
    return b.mul(lhs, rhs);
  case AffineExprKind::Mod:
    return b.rem(lhs, rhs);
  case AffineExprKind::FloorDiv:
    return b.div(lhs, rhs);
  case AffineExprKind::CeilDiv:
    return b.div(b.add(lhs, b.sub(rhs, 1)), rhs);
  default:
    llvm_unreachable("an affine expression of another kind");
  }
}

static Value loadExtra(KernelBuilder &b, Value extra, AffineMap map,
                       ArrayRef<Value> dims, const IRMapping &toDevice) {
  auto type = cast<ShapedType>(extra.getType());
  Value index = b.i64(0);
  for (auto [expr, size] : llvm::zip(map.getResults(), type.getShape())) {
    if (!ShapedType::isDynamic(size)) // Only the first is, and it is 0 here.
      index = b.mul(index, size);
    index = b.add(index, evaluate(b, expr, dims));
  }
  Type element = type.getElementType();
  return b.load(element, b.element(toDevice.lookup(extra), element, index));
}

SmallVector<Value> mlir::moe::cloneIntoKernel(
    KernelBuilder &b, Region &region, ValueRange args,
    const IRMapping &toDevice,
    function_ref<Value(Operation &, IRMapping &)> replace) {
  Block &block = region.front();
  // Captured scalars come along with the operands.
  IRMapping mapping = toDevice;
  mapping.map(block.getArguments(), args);
  llvm::SetVector<Value> above;
  getUsedValuesDefinedAbove(region, above);
  for (Value value : above)
    if (!mapping.contains(value)) // A constant.
      mapping.map(value, b.clone(*value.getDefiningOp())->getResult(0));
  for (Operation &op : block.without_terminator()) {
    if (Value value = replace ? replace(op, mapping) : Value())
      mapping.map(op.getResult(0), value);
    else
      b.clone(op, mapping);
  }
  return llvm::map_to_vector(
      block.getTerminator()->getOperands(),
      [&](Value value) { return mapping.lookup(value); });
}

SmallVector<Value> mlir::moe::inlineDeviceRegion(KernelBuilder &b,
                                                 const DeviceRegion &region,
                                                 Value first,
                                                 ArrayRef<Value> dims,
                                                 const IRMapping &toDevice) {
  if (!region)
    return {first};
  SmallVector<Value> args = {first};
  for (auto [extra, map] : llvm::zip(region.extras, region.maps))
    args.push_back(loadExtra(b, extra, map, dims, toDevice));
  auto decidingExp = [&](Operation &op, IRMapping &mapping) {
    auto exp = dyn_cast<math::ExpOp>(op);
    return exp && exp.getType().isF32()
               ? buildExp(b, exp.getLoc(), mapping.lookup(exp.getOperand()))
               : Value();
  };
  return cloneIntoKernel(b, *region.region, args, toDevice, decidingExp);
}
