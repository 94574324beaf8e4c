//===- RouteOp.cpp - moe.route --------------------------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "IndexedOperands.h"
#include "Verification.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// What the op consists of
//===----------------------------------------------------------------------===//

ArrayRef<StringRef> RouteOp::getDimNames() {
  static const StringRef names[] = {"t", "e", "j", "k"};
  return names;
}

/// A map that is just a list of dimensions.
static AffineMap dimsMap(MLIRContext *context, ArrayRef<unsigned> dims) {
  return AffineMap::getMultiDimMapWithTargets(RouteOp::kNumDims, dims, context);
}

AffineMap RouteOp::getRouterMap() {
  return cast<AffineMapAttr>(getRouterMaps()[1]).getValue();
}

bool RouteOp::isExpertMajor() {
  return getRouterMap() == dimsMap(getContext(), {kExpert, kSum});
}

bool RouteOp::hasMix() {
  return !getLogits().empty() &&
         getLogits().front().getTerminator()->getNumOperands() > 1;
}

/// The first of `sizes` that is known.
static int64_t firstKnown(ArrayRef<int64_t> sizes) {
  const auto *known = llvm::find_if_not(sizes, ShapedType::isDynamic);
  return known == sizes.end() ? ShapedType::kDynamic : *known;
}

int64_t RouteOp::getNumTokens() { return dimOf(getX(), 0); }

int64_t RouteOp::getNumRouterExperts() {
  SmallVector<int64_t> sizes = {dimOf(getRouter(), isExpertMajor() ? 0 : 1)};
  for (Value perExpert : {getBias(), getIdMap()})
    if (perExpert)
      sizes.push_back(dimOf(perExpert, 0));
  return firstKnown(sizes);
}

int64_t RouteOp::getTopK() {
  return firstKnown({dimOf(getWeightsInit(), 1), dimOf(getIdsInit(), 1),
                     dimOf(getSlotsInit(), 1)});
}

int64_t RouteOp::getLength() {
  return firstKnown(
      {dimOf(getX(), 1), dimOf(getRouter(), isExpertMajor() ? 1 : 0)});
}

int64_t RouteOp::getNumExperts() {
  int64_t size = dimOf(getOffsetsInit(), 0);
  return ShapedType::isDynamic(size) ? size : size - 1;
}

//===----------------------------------------------------------------------===//
// Interfaces
//===----------------------------------------------------------------------===//

void RouteOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  StringRef names[] = {"weights", "ids", "offsets", "slots", "source"};
  for (auto [result, name] : llvm::zip(getResults(), names))
    setName(result, name);
}

void RouteOp::getAsmBlockArgumentNames(Region &region,
                                       OpAsmSetValueNameFn setName) {
  if (region.empty())
    return;
  StringRef first = &region == &getLogits() ? "sum" : "weight";
  for (BlockArgument arg : region.getArguments())
    setName(arg, arg.getArgNumber() == 0 ? first : "extra");
}

LogicalResult RouteOp::reifyResultShapes(OpBuilder &builder,
                                         ReifiedRankedShapedTypeDims &shapes) {
  for (Value init : getInits())
    if (isa<RankedTensorType>(init.getType()))
      shapes.push_back(tensor::getMixedSizes(builder, getLoc(), init));
  return success();
}

void RouteOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addDestinationEffects(*this, effects);
}

Speculation::Speculatability RouteOp::getSpeculatability() {
  // Too small a source is undefined behaviour, so hoisting needs proof.
  int64_t numTokens = getNumTokens(), topK = getTopK();
  int64_t numRows = dimOf(getSourceInit(), 0);
  bool enough = hasPureTensorSemantics() && !ShapedType::isDynamic(numTokens) &&
                !ShapedType::isDynamic(topK) &&
                !ShapedType::isDynamic(numRows) && numRows >= numTokens * topK;
  return enough ? Speculation::Speculatable : Speculation::NotSpeculatable;
}

//===----------------------------------------------------------------------===//
// Verifier
//===----------------------------------------------------------------------===//

/// route_c2
static LogicalResult verifyDestinations(RouteOp op) {
  auto has = [&](Value init, size_t rank, bool isInteger) {
    return shapeOf(init).size() == rank &&
           elementType(init).isInteger(32) == isInteger;
  };
  if (op.getInits().size() == 5 && has(op.getWeightsInit(), 2, false) &&
      has(op.getIdsInit(), 2, true) && has(op.getOffsetsInit(), 1, true) &&
      has(op.getSlotsInit(), 2, true) && has(op.getSourceInit(), 1, true))
    return success();
  return op.emitOpError("needs five destinations: weights (T×k, f32, f16 or "
                        "bf16), ids (T×k, i32), offsets (E+1, i32), slots "
                        "(T×k, i32), source (M, i32); got ")
         << op.getInits().getTypes();
}

/// route_c3
static LogicalResult verifyChoices(RouteOp op) {
  int64_t expected[] = {op.getNumTokens(), op.getTopK()};
  StringRef names[] = {"weights", "ids", "slots"};
  Value inits[] = {op.getWeightsInit(), op.getIdsInit(), op.getSlotsInit()};
  for (auto [name, init] : llvm::zip(names, inits))
    if (!agree(shapeOf(init), expected))
      return op.emitOpError()
             << name << " must be T×k = " << str(expected)
             << " (the tokens of x, the choices of the other destinations), "
                "got "
             << str(shapeOf(init));
  return success();
}

/// route_c4
static LogicalResult verifyRouter(RouteOp op) {
  using Op = RouteOp;
  MLIRContext *context = op.getContext();
  ArrayAttr maps = op.getRouterMaps();
  if (maps.size() != 2 || cast<AffineMapAttr>(maps[0]).getValue() !=
                              dimsMap(context, {Op::kToken, Op::kSum}))
    return op.emitOpError("x must be indexed [t, k]");
  if (!op.isExpertMajor() &&
      op.getRouterMap() != dimsMap(context, {Op::kSum, Op::kExpert}))
    return op.emitOpError("the router must be indexed [e, k] or [k, e]");
  int64_t length = dimOf(op.getRouter(), op.isExpertMajor() ? 1 : 0);
  if (!agree(dimOf(op.getX(), 1), length))
    return op.emitOpError("x has ")
           << dimOf(op.getX(), 1) << " elements a token, but the router "
           << length << " an expert";
  return success();
}

/// route_c5 and route_c7 for a list of operands that may not be indexed by
/// `unavailable`.
static LogicalResult verifyExtras(RouteOp op, StringRef kind,
                                  OperandRange operands, ArrayAttr maps,
                                  ArrayRef<unsigned> unavailable) {
  if (operands.size() != maps.size())
    return op.emitOpError("has ") << operands.size() << " " << kind << "s, but "
                                  << maps.size() << " index maps for them";
  int64_t extents[RouteOp::kNumDims] = {op.getNumTokens(),
                                        op.getNumRouterExperts(), op.getTopK(),
                                        ShapedType::kDynamic};
  for (auto [i, operand] : llvm::enumerate(operands)) {
    AffineMap map = cast<AffineMapAttr>(maps[i]).getValue();
    size_t rank = shapeOf(operand).size();
    if (map.getNumDims() != RouteOp::kNumDims || map.getNumSymbols() != 0 ||
        map.getNumResults() != rank)
      return op.emitOpError()
             << kind << " #" << i << " has rank " << rank
             << " and needs as many index expressions in t, e, j, k, got "
             << map.getNumResults();
    for (unsigned dim : unavailable)
      if (map.isFunctionOfDim(dim))
        return op.emitOpError() << kind << " #" << i << " cannot be indexed by "
                                << RouteOp::getDimNames()[dim];
    if (failed(verifyIndexBounds(op, operand, map, extents,
                                 RouteOp::getDimNames())))
      return failure();
  }
  return success();
}

/// route_c6
static LogicalResult verifyPerExpert(RouteOp op) {
  int64_t numExperts = dimOf(op.getRouter(), op.isExpertMajor() ? 0 : 1);
  for (auto [name, operand] :
       {std::pair("bias", op.getBias()), std::pair("id_map", op.getIdMap())})
    if (operand && (!agree(dimOf(operand, 0), numExperts) ||
                    !agree(dimOf(operand, 0), op.getNumRouterExperts())))
      return op.emitOpError() << name << " has " << dimOf(operand, 0)
                              << " elements, but the router "
                              << op.getNumRouterExperts() << " experts";
  return success();
}

LogicalResult RouteOp::verify() {
  if (failed(verifyAllTensorsOrAllMemrefs(*this)) || // route_c1
      failed(verifyDestinations(*this)) || failed(verifyRouter(*this)) ||
      failed(verifyChoices(*this)) || failed(verifyPerExpert(*this)) ||
      failed(verifyExtras(*this, "extra", getExtras(), getExtraMaps(),
                          {kChoice, kSum})) ||
      failed(verifyExtras(*this, "weight extra", getWeightExtras(),
                          getWeightExtraMaps(), {kSum})))
    return failure();
  if (failed(verifyTopK(*this, getTopK(), getNumRouterExperts())) || // route_c8
      failed(verifySelection(*this, getScore(), getSoftmaxScope(),   // route_c9
                             getGroupsAttr(), getScaleAttr(),
                             getNumRouterExperts(), getTopK())))
    return failure();
  if (dimOf(getOffsetsInit(), 0) == 0) // route_c10
    return emitOpError("offsets has 0 elements; for E experts it has E+1");
  bool limitsCapacity =
      getTokensPerGroup() || getOrder() != CapacityOrder::TokenMajor;
  if (limitsCapacity && !getCapacity()) // route_c11
    return emitOpError("order and tokens_per_group say which choices a full "
                       "expert drops; add capacity(…) or remove them");
  return success();
}

/// The types of a region's arguments: an f32, then the elements of `extras`.
static LogicalResult verifyArguments(RouteOp op, Region &region, StringRef name,
                                     OperandRange extras) {
  SmallVector<Type> expected = {Float32Type::get(op.getContext())};
  for (Value extra : extras)
    expected.push_back(elementType(extra));
  if (llvm::equal(region.getArgumentTypes(), expected))
    return success();
  return op.emitOpError("the arguments of '")
         << name << "' must be (" << expected << "), got ("
         << region.getArgumentTypes() << ")";
}

/// route_c12
static LogicalResult verifyLogits(RouteOp op) {
  Region &region = op.getLogits();
  if (region.empty()) {
    if (op.getExtras().empty())
      return success();
    return op.emitOpError("extras are arguments of the region 'logits', which "
                          "is missing");
  }
  if (failed(verifyArguments(op, region, "logits", op.getExtras())))
    return failure();
  TypeRange yielded = region.front().getTerminator()->getOperandTypes();
  if (yielded.empty() || yielded.size() > 2 ||
      !llvm::all_of(yielded, [](Type type) { return type.isF32(); }))
    return op.emitOpError("'logits' must yield the logit (f32), or the logit "
                          "and the mix (f32), got (")
           << yielded << ")";
  return verifyNoSideEffects(op, region, "region 'logits'"); // route_c14
}

/// route_c13
static LogicalResult verifyWeights(RouteOp op) {
  Region &region = op.getWeights();
  Type stored = elementType(op.getWeightsInit());
  if (region.empty()) {
    if (!op.getWeightExtras().empty())
      return op.emitOpError("weight extras are arguments of the region "
                            "'weights', which is missing");
    if (!stored.isF32())
      return op.emitOpError("the destination of the weights is ")
             << stored << "; round them in a region 'weights'";
    return success();
  }
  if (failed(verifyArguments(op, region, "weights", op.getWeightExtras())))
    return failure();
  TypeRange yielded = region.front().getTerminator()->getOperandTypes();
  if (yielded.size() != 1 || yielded[0] != stored)
    return op.emitOpError("'weights' must yield the element of its "
                          "destination, ")
           << stored << ", got (" << yielded << ")";
  return verifyNoSideEffects(op, region, "region 'weights'"); // route_c14
}

LogicalResult RouteOp::verifyRegions() {
  if (failed(verifyLogits(*this)))
    return failure();
  return verifyWeights(*this);
}
