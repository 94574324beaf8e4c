//===- FuseBase.cpp - What is added to a layer's result ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A residual or a shared expert that is added behind a moe.combine becomes its
// base, which saves a pass over the tokens. The bits are the same: the combine
// adds its base last, in f32, and rounds once.
//
//===----------------------------------------------------------------------===//

#include "ElementTracer.h"
#include "FusionRemarks.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

using namespace mlir;
using namespace mlir::moe;

/// The one elementwise operation that reads `value`, which gives T×H; null if
/// there is none.
static Operation *findUser(Value value) {
  if (value.use_empty())
    return nullptr;
  Operation *user = *value.getUsers().begin();
  if (!llvm::all_equal(value.getUsers()) || !isTraceable(user) ||
      user->getBlock() != value.getParentBlock() ||
      cast<RankedTensorType>(user->getResult(0).getType()).getRank() != 2)
    return nullptr;
  return user;
}

static bool isStored(Type type) {
  return type.isF32() || type.isF16() || type.isBF16();
}

/// `value`, scalar or tensor, or what it is the extension of.
static Value skipExtension(Value value) {
  auto extension = value.getDefiningOp<arith::ExtFOp>();
  return extension && isStored(getElementTypeOrSelf(extension.getIn()))
             ? extension.getIn()
             : value;
}

/// The tensor b if `value` is `combined` + b, elementwise in f32, rounded at
/// most once after it; null otherwise.
static Value matchBase(Value value, Value combined) {
  MLIRContext *context = value.getContext();
  ElementTracer::Index at = {getAffineDimExpr(0, context),
                             getAffineDimExpr(1, context)};
  Block block;
  ElementTracer tracer(context, block, 2);
  Value sum = block.addArgument(Float32Type::get(context), combined.getLoc());
  tracer.addSource(combined, at, sum);
  FailureOr<Value> scalar = tracer.trace(value, at);
  if (failed(scalar))
    return {};
  Value rounded = *scalar;
  if (auto truncation = rounded.getDefiningOp<arith::TruncFOp>())
    rounded = truncation.getIn();
  auto add = rounded.getDefiningOp<arith::AddFOp>();
  if (!add || (add.getLhs() != sum && add.getRhs() != sum))
    return {};
  auto other = dyn_cast<BlockArgument>(
      skipExtension(add.getLhs() == sum ? add.getRhs() : add.getLhs()));
  if (!other || other == sum)
    return {};
  const ElementTracer::Extra &extra =
      tracer.getExtras()[other.getArgNumber() - 1];
  Value base = skipExtension(extra.tensor);
  bool isBase = isStored(getElementTypeOrSelf(base)) && extra.map.isIdentity();
  return isBase ? base : Value();
}

/// The same type with the sizes of `shape`.
static Value castTo(OpBuilder &b, Location loc, Value value, ShapedType shape) {
  auto type = cast<RankedTensorType>(value.getType());
  auto wanted = RankedTensorType::get(shape.getShape(), type.getElementType());
  return wanted == type ? value : tensor::CastOp::create(b, loc, wanted, value);
}

static LogicalResult remarkRounded(CombineOp combine, Operation *user) {
  if (isa<arith::AddFOp>(user))
    remarkMissed(kCombineRemark, combine, user->getLoc(),
                 "tokens are read again to be added to",
                 "the sum was rounded to the stored type before",
                 "add to an f32 result and truncate the sum, or pass it as the "
                 "base of the moe.combine");
  return failure();
}

FailureOr<CombineOp> mlir::moe::rewriteAddAsBase(RewriterBase &rewriter,
                                                 CombineOp combine) {
  if (!combine.hasPureTensorSemantics() || combine.getBase())
    return rewriter.notifyMatchFailure(combine, "has a base, or no tensors");
  Value combined = combine->getResult(0);
  Operation *user = findUser(combined);
  if (!user)
    return rewriter.notifyMatchFailure(combine, "not read elementwise by one");
  if (!getElementTypeOrSelf(combined).isF32())
    return remarkRounded(combine, user);
  // The sum may round in an operation of its own.
  Operation *last = findUser(user->getResult(0));
  Value base = last ? matchBase(last->getResult(0), combined) : Value();
  if (!base) {
    last = user;
    base = matchBase(last->getResult(0), combined);
  }
  if (!base)
    return rewriter.notifyMatchFailure(combine, "no tensor is added to it");

  Location loc = combine.getLoc();
  rewriter.setInsertionPoint(last);
  Value init = combine.getInit();
  Type stored = getElementTypeOrSelf(last->getResult(0));
  if (!stored.isF32())
    init = tensor::EmptyOp::create(
        rewriter, loc, tensor::getMixedSizes(rewriter, loc, init), stored);
  base = castTo(rewriter, loc, base, cast<ShapedType>(init.getType()));
  auto fused = CombineOp::create(rewriter, loc, TypeRange(init.getType()),
                                 combine.getRows(), combine.getSlots(),
                                 combine.getWeights(), base, ValueRange(init));
  fused->setDiscardableAttrs(combine->getDiscardableAttrDictionary());
  Value result = castTo(rewriter, loc, fused->getResult(0),
                        cast<ShapedType>(last->getResult(0).getType()));
  rewriter.replaceOp(last, result);
  if (last != user)
    rewriter.eraseOp(user);
  rewriter.eraseOp(combine);
  return fused;
}
