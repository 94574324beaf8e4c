//===- MoEOps.cpp - Syntax, builders, effects and shapes of moe ops -------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GroupedMatmulSyntax.h"
#include "RouteSyntax.h"
#include "Verification.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Enumerations as bare keywords: score(softmax)
//===----------------------------------------------------------------------===//

template <typename AttrTy>
static ParseResult parseKeyword(OpAsmParser &parser, AttrTy &attr) {
  auto value = FieldParser<decltype(attr.getValue())>::parse(parser);
  if (failed(value))
    return failure();
  attr = AttrTy::get(parser.getContext(), *value);
  return success();
}

template <typename AttrTy>
static void printKeyword(OpAsmPrinter &printer, Operation *, AttrTy attr) {
  printer << stringifyEnum(attr.getValue());
}

//===----------------------------------------------------------------------===//
// outs(...): destinations; the tensors among them are the results
//===----------------------------------------------------------------------===//

static void appendTensorTypes(TypeRange initTypes,
                              SmallVectorImpl<Type> &resultTypes) {
  llvm::copy_if(initTypes, std::back_inserter(resultTypes),
                llvm::IsaPred<RankedTensorType>);
}

static ParseResult parseOuts(
    OpAsmParser &parser, SmallVectorImpl<OpAsmParser::UnresolvedOperand> &inits,
    SmallVectorImpl<Type> &initTypes, SmallVectorImpl<Type> &resultTypes) {
  if (parser.parseKeyword("outs") || parser.parseLParen())
    return failure();
  if (succeeded(parser.parseOptionalRParen()))
    return success();
  if (parser.parseOperandList(inits) || parser.parseColonTypeList(initTypes) ||
      parser.parseRParen())
    return failure();
  appendTensorTypes(initTypes, resultTypes);
  return success();
}

static void printOuts(OpAsmPrinter &printer, Operation *, OperandRange inits,
                      TypeRange initTypes, TypeRange) {
  printer << "outs(";
  if (!inits.empty())
    printer << inits << " : " << initTypes;
  printer << ')';
}

#define GET_OP_CLASSES
#include "moe/Dialect/MoE/IR/MoEOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

/// E for an offsets operand of E+1 elements; kDynamic if unknown.
static int64_t numExpertsOf(Value offsets) {
  int64_t size = dimOf(offsets, 0);
  return ShapedType::isDynamic(size) ? size : size - 1;
}

static LogicalResult reifyFromInits(DestinationStyleOpInterface op,
                                    OpBuilder &builder,
                                    ReifiedRankedShapedTypeDims &shapes) {
  for (Value init : op.getDpsInits())
    if (isa<RankedTensorType>(init.getType()))
      shapes.push_back(tensor::getMixedSizes(builder, op.getLoc(), init));
  return success();
}

static Speculation::Speculatability
speculatableOnTensors(DestinationStyleOpInterface op) {
  return op.hasPureTensorSemantics() ? Speculation::Speculatable
                                     : Speculation::NotSpeculatable;
}

static Value emptyTensor(OpBuilder &builder, Location loc,
                         ArrayRef<OpFoldResult> sizes, Type elementType) {
  return tensor::EmptyOp::create(builder, loc, sizes, elementType);
}

static OpFoldResult sizeOf(OpBuilder &builder, Location loc, Value tensor,
                           int64_t dim) {
  return tensor::getMixedSize(builder, loc, tensor, dim);
}

//===----------------------------------------------------------------------===//
// moe.gate
//===----------------------------------------------------------------------===//

void GateOp::build(OpBuilder &builder, OperationState &state, Value logits,
                   int64_t topK, Score score, Value bias) {
  Location loc = state.location;
  SmallVector<OpFoldResult> sizes = {sizeOf(builder, loc, logits, 0),
                                     builder.getIndexAttr(topK)};
  SmallVector<Value> inits = {
      emptyTensor(builder, loc, sizes, builder.getF32Type()),
      emptyTensor(builder, loc, sizes, builder.getI32Type())};
  build(builder, state, TypeRange(inits), logits, bias, /*mix=*/Value(), inits,
        score, SelectOn::Scores, SoftmaxScope::All, GroupsAttr(),
        RenormalizeAttr(), APFloat(1.0f));
}

int64_t GateOp::getNumTokens() { return dimOf(getLogits(), 0); }
int64_t GateOp::getNumExperts() { return dimOf(getLogits(), 1); }
int64_t GateOp::getTopK() {
  int64_t topK = dimOf(getWeightsInit(), 1);
  return ShapedType::isDynamic(topK) ? dimOf(getIdsInit(), 1) : topK;
}

void GateOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  StringRef names[] = {"weights", "ids"};
  for (auto [result, name] : llvm::zip(getResults(), names))
    setName(result, name);
}

LogicalResult GateOp::reifyResultShapes(OpBuilder &builder,
                                        ReifiedRankedShapedTypeDims &shapes) {
  return reifyFromInits(*this, builder, shapes);
}

void GateOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addDestinationEffects(*this, effects);
}

Speculation::Speculatability GateOp::getSpeculatability() {
  return speculatableOnTensors(*this);
}

//===----------------------------------------------------------------------===//
// moe.dispatch
//===----------------------------------------------------------------------===//

/// Sizes of a row value: `numRows` and the inner dimensions of the payload.
static SmallVector<OpFoldResult> rowSizes(OpBuilder &builder, Location loc,
                                          OpFoldResult numRows, Value payload,
                                          int64_t outerDims) {
  SmallVector<OpFoldResult> sizes =
      tensor::getMixedSizes(builder, loc, payload);
  sizes.erase(sizes.begin(), sizes.begin() + outerDims);
  sizes.insert(sizes.begin(), numRows);
  return sizes;
}

/// T·k of the ids as an attribute where both are static, else as a value.
static OpFoldResult numChoices(OpBuilder &builder, Location loc, Value ids) {
  auto type = cast<RankedTensorType>(ids.getType());
  if (type.hasStaticShape())
    return builder.getIndexAttr(type.getNumElements());
  AffineExpr t, k;
  bindSymbols(builder.getContext(), t, k);
  return affine::makeComposedFoldedAffineApply(
      builder, loc, t * k, tensor::getMixedSizes(builder, loc, ids));
}

void DispatchOp::build(OpBuilder &builder, OperationState &state, Value ids,
                       int64_t numExperts, ValueRange tokens,
                       ValueRange choices) {
  Location loc = state.location;
  OpFoldResult numRows = numChoices(builder, loc, ids);
  Type i32 = builder.getI32Type();
  SmallVector<Value> inits = {
      emptyTensor(builder, loc, {builder.getIndexAttr(numExperts + 1)}, i32),
      emptyTensor(builder, loc, tensor::getMixedSizes(builder, loc, ids), i32)};
  auto addRows = [&](Value payload, int64_t outerDims) {
    inits.push_back(emptyTensor(
        builder, loc, rowSizes(builder, loc, numRows, payload, outerDims),
        getElementTypeOrSelf(payload)));
  };
  for (Value token : tokens)
    addRows(token, /*outerDims=*/1);
  for (Value choice : choices)
    addRows(choice, /*outerDims=*/2);
  build(builder, state, TypeRange(inits), ids, tokens, choices,
        /*capacity=*/Value(), /*priority=*/Value(),
        /*tokens_per_group=*/Value(), inits, CapacityOrder::TokenMajor,
        /*in_bounds=*/false);
}

SmallVector<Value> DispatchOp::getPayloads() {
  SmallVector<Value> payloads(getTokens());
  llvm::append_range(payloads, getChoices());
  return payloads;
}

int64_t DispatchOp::getNumExperts() { return numExpertsOf(getOffsetsInit()); }

void DispatchOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  for (auto [i, result] : llvm::enumerate(getResults()))
    setName(result, i == 0 ? "offsets" : i == 1 ? "slots" : "rows");
}

LogicalResult
DispatchOp::reifyResultShapes(OpBuilder &builder,
                              ReifiedRankedShapedTypeDims &shapes) {
  return reifyFromInits(*this, builder, shapes);
}

void DispatchOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addDestinationEffects(*this, effects);
}

Speculation::Speculatability DispatchOp::getSpeculatability() {
  // Too few rows are undefined behaviour, so hoisting needs proof of enough.
  auto idsType = cast<ShapedType>(getIds().getType());
  if (!hasPureTensorSemantics() || !idsType.hasStaticShape())
    return Speculation::NotSpeculatable;
  bool enough = llvm::all_of(getRowInits(), [&](Value init) {
    int64_t numRows = dimOf(init, 0);
    return !ShapedType::isDynamic(numRows) &&
           numRows >= idsType.getNumElements();
  });
  return enough ? Speculation::Speculatable : Speculation::NotSpeculatable;
}

//===----------------------------------------------------------------------===//
// moe.plan
//===----------------------------------------------------------------------===//

int64_t PlanOp::getNumExperts() { return numExpertsOf(getOffsetsInit()); }

void PlanOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  StringRef names[] = {"offsets", "slots", "source"};
  for (auto [result, name] : llvm::zip(getResults(), names))
    setName(result, name);
}

LogicalResult PlanOp::reifyResultShapes(OpBuilder &builder,
                                        ReifiedRankedShapedTypeDims &shapes) {
  return reifyFromInits(*this, builder, shapes);
}

void PlanOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addDestinationEffects(*this, effects);
}

Speculation::Speculatability PlanOp::getSpeculatability() {
  // Too small a source is undefined behaviour, so hoisting needs proof.
  auto idsType = cast<ShapedType>(getIds().getType());
  int64_t numRows = dimOf(getSourceInit(), 0);
  bool enough = hasPureTensorSemantics() && idsType.hasStaticShape() &&
                !ShapedType::isDynamic(numRows) &&
                numRows >= idsType.getNumElements();
  return enough ? Speculation::Speculatable : Speculation::NotSpeculatable;
}

//===----------------------------------------------------------------------===//
// moe.expert
//===----------------------------------------------------------------------===//

/// Type of the argument that stands for the rows of one expert.
static RankedTensorType rowArgType(Value rows) {
  auto type = cast<RankedTensorType>(rows.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = ShapedType::kDynamic;
  return type.clone(shape);
}

static RankedTensorType sliceType(Value param) {
  auto type = cast<RankedTensorType>(param.getType());
  return type.clone(type.getShape().drop_front());
}

void ExpertOp::build(OpBuilder &builder, OperationState &state, Value offsets,
                     ValueRange rows, ValueRange params, ValueRange inits,
                     function_ref<SmallVector<Value>(
                         OpBuilder &, Location, Value, ValueRange, ValueRange)>
                         bodyBuilder) {
  build(builder, state, TypeRange(inits), offsets, rows, params, inits);
  SmallVector<Type> argTypes = {builder.getIndexType()};
  llvm::append_range(argTypes, llvm::map_range(rows, rowArgType));
  llvm::append_range(argTypes, llvm::map_range(params, sliceType));
  SmallVector<Location> locs(argTypes.size(), state.location);

  OpBuilder::InsertionGuard guard(builder);
  Block *body = builder.createBlock(state.regions[0].get(), {}, argTypes, locs);
  ValueRange args = body->getArguments();
  SmallVector<Value> yielded =
      bodyBuilder(builder, state.location, args[0], args.slice(1, rows.size()),
                  args.drop_front(1 + rows.size()));
  YieldOp::create(builder, state.location, yielded);
}

YieldOp ExpertOp::getYieldOp() {
  return cast<YieldOp>(getBody().front().getTerminator());
}

bool ExpertOp::isRowInit(unsigned i) {
  auto yielded = cast<RankedTensorType>(getYieldOp().getValues()[i].getType());
  return yielded.getRank() ==
         cast<RankedTensorType>(getInits()[i].getType()).getRank();
}

int64_t ExpertOp::getNumExperts() { return numExpertsOf(getOffsets()); }

void ExpertOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  for (Value result : getResults())
    setName(result, "y");
}

void ExpertOp::getAsmBlockArgumentNames(Region &region,
                                        OpAsmSetValueNameFn setName) {
  if (region.empty())
    return;
  for (BlockArgument arg : region.getArguments())
    setName(arg, arg.getArgNumber() == 0                  ? "expert"
                 : arg.getArgNumber() <= getRows().size() ? "rows"
                                                          : "param");
}

LogicalResult ExpertOp::reifyResultShapes(OpBuilder &builder,
                                          ReifiedRankedShapedTypeDims &shapes) {
  return reifyFromInits(*this, builder, shapes);
}

//===----------------------------------------------------------------------===//
// moe.combine
//===----------------------------------------------------------------------===//

void CombineOp::build(OpBuilder &builder, OperationState &state, Value rows,
                      Value slots, Value weights, Value base) {
  Location loc = state.location;
  Value init = emptyTensor(
      builder, loc,
      {sizeOf(builder, loc, slots, 0), sizeOf(builder, loc, rows, 1)},
      getElementTypeOrSelf(rows));
  build(builder, state, init.getType(), rows, slots, weights, base, init);
}

void CombineOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  for (Value result : getResults())
    setName(result, "combined");
}

LogicalResult
CombineOp::reifyResultShapes(OpBuilder &builder,
                             ReifiedRankedShapedTypeDims &shapes) {
  return reifyFromInits(*this, builder, shapes);
}

void CombineOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addDestinationEffects(*this, effects);
}

Speculation::Speculatability CombineOp::getSpeculatability() {
  return speculatableOnTensors(*this);
}
