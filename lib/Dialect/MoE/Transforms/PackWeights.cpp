//===- PackWeights.cpp - Layers with packed weights -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A function whose weights are arguments gets packed ones in their place, and a
// function beside it makes those from what a checkpoint stores.
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Transforms/PackWeights.h"

#include "PackedNames.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/SymbolTable.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPACKWEIGHTS
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// The function that packs
//===----------------------------------------------------------------------===//

/// The columns of `source` that are read, as a tensor of their own.
static Value buildColumns(OpBuilder &b, Location loc, Value source,
                          Value experts, const WeightRead &read) {
  auto type = cast<RankedTensorType>(source.getType());
  if (read.columns == type.getDimSize(read.columnDim))
    return source;
  Attribute zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
  SmallVector<OpFoldResult> offsets(3, zero), strides(3, one);
  SmallVector<OpFoldResult> sizes(3, experts);
  offsets[read.columnDim] = b.getIndexAttr(read.first);
  strides[read.columnDim] = b.getIndexAttr(read.stride);
  sizes[read.columnDim] = b.getIndexAttr(read.columns);
  sizes[read.sumDim] = b.getIndexAttr(type.getDimSize(read.sumDim));
  return tensor::ExtractSliceOp::create(b, loc, source, offsets, sizes,
                                        strides);
}

/// The type of what is packed from a tensor of `type`, for `experts` experts.
static RankedTensorType getPackedType(RankedTensorType type,
                                      const WeightRead &read, int64_t experts) {
  SmallVector<int64_t> shape = getPackedShape(
      type.getElementType(), read.columns, type.getDimSize(read.sumDim));
  shape.insert(shape.begin(), experts);
  return type.clone(shape);
}

static Value buildPack(OpBuilder &b, Location loc, Value source,
                       const WeightRead &read) {
  auto type = cast<RankedTensorType>(source.getType());
  Type element = type.getElementType();
  int64_t length = type.getDimSize(read.sumDim), pair = getPanelPair(element);
  Value experts = tensor::DimOp::create(b, loc, source, 0);
  Value columns = buildColumns(b, loc, source, experts, read);

  SmallVector<int64_t> tiled = {read.columnDim}, order;
  SmallVector<OpFoldResult> tiles = {b.getIndexAttr(kPanelColumns)};
  if (pair > 1) {
    tiled.push_back(read.sumDim);
    tiles.push_back(b.getIndexAttr(pair));
  }
  if (read.columnDim > read.sumDim)
    order = {0, 2, 1};
  std::optional<Value> padding;
  if (read.columns % kPanelColumns != 0 || length % pair != 0)
    padding = arith::ConstantOp::create(b, loc, b.getZeroAttr(element));
  RankedTensorType packed = getPackedType(type, read, ShapedType::kDynamic);
  Value empty = tensor::EmptyOp::create(b, loc, packed.getShape(), element,
                                        ValueRange{experts});
  return linalg::PackOp::create(b, loc, columns, empty, tiled, tiles, padding,
                                order)
      .getResult();
}

static std::string getPackName(func::FuncOp layer) {
  return (layer.getName() + "_pack").str();
}

/// The attributes of the result for an argument with `attributes`.
static DictionaryAttr getResultAttrs(Builder &b, DictionaryAttr attributes,
                                     llvm::StringSet<> &names) {
  NamedAttrList result(attributes);
  result.erase(kParamAttr);
  // A signature has no name twice.
  if (auto name = dyn_cast_or_null<StringAttr>(result.get(kNameAttr)))
    result.set(kNameAttr,
               b.getStringAttr(takeNames((name.getValue() + "_packed").str(),
                                         "_", 1, names)));
  return result.getDictionary(b.getContext());
}

/// The function that makes the packed tensors of `weights`, still arguments of
/// `layer`, from any number of experts.
static func::FuncOp buildPackFunction(func::FuncOp layer,
                                      ArrayRef<PackedArgument> weights) {
  Location loc = layer.getLoc();
  OpBuilder b(layer.getContext());
  auto pack =
      func::FuncOp::create(loc, getPackName(layer), b.getFunctionType({}, {}));
  b.setInsertionPointToStart(pack.addEntryBlock());
  SmallVector<Value> results;
  for (const PackedArgument &weight : weights) {
    auto type = cast<RankedTensorType>(weight.argument.getType());
    SmallVector<int64_t> shape(type.getShape());
    shape[0] = ShapedType::kDynamic;
    DictionaryAttr attributes =
        layer.getArgAttrDict(weight.argument.getArgNumber());
    unsigned number = pack.getNumArguments();
    (void)pack.insertArgument(number, type.clone(shape), attributes,
                              weight.argument.getLoc());
    for (const WeightRead &read : weight.reads)
      results.push_back(buildPack(b, loc, pack.getArgument(number), read));
  }
  llvm::StringSet<> names = getNames(pack, kNameAttr);
  for (const PackedArgument &weight : weights)
    for (DictionaryAttr attributes : weight.attributes) {
      unsigned number = pack.getNumResults();
      (void)pack.insertResult(number, results[number].getType(),
                              getResultAttrs(b, attributes, names));
    }
  func::ReturnOp::create(b, loc, results);
  return pack;
}

//===----------------------------------------------------------------------===//
// The layer
//===----------------------------------------------------------------------===//

/// Lets `use` read `packed`.
static void replaceUse(const WeightUse &use, Value packed) {
  GroupedMatmulOp op = use.op;
  SmallVector<AffineMap> maps(
      op.getFactorMaps().getAsValueRange<AffineMapAttr>());
  maps[use.factor] = getPackedMap(getElementTypeOrSelf(packed.getType()),
                                  maps[use.factor].getResult(0));
  op.setFactorMapsAttr(Builder(op.getContext()).getAffineMapArrayAttr(maps));
  op.getFactorsMutable()[use.factor].set(packed);
}

/// Replaces an argument of `layer` by packed ones, which are appended to
/// `added`.
static void replaceArgument(func::FuncOp layer, const PackedArgument &weight,
                            SmallVectorImpl<BlockArgument> &added) {
  BlockArgument argument = weight.argument;
  auto type = cast<RankedTensorType>(argument.getType());
  BlockArgument first;
  for (auto [i, read] : llvm::enumerate(weight.reads)) {
    unsigned number = argument.getArgNumber() + i + 1;
    RankedTensorType packed = getPackedType(type, read, type.getDimSize(0));
    (void)layer.insertArgument(number, packed, weight.attributes[i],
                               argument.getLoc());
    added.push_back(layer.getArgument(number));
    first = first ? first : added.back();
    for (const WeightUse &use : weight.uses)
      if (use.read == read)
        replaceUse(use, added.back());
  }
  argument.replaceAllUsesWith(first); // Of the number of experts.
  (void)layer.eraseArgument(argument.getArgNumber());
}

/// An error if the function that packs the weights of `layer` cannot be called
/// as artifacts look for it.
static LogicalResult checkPackName(func::FuncOp layer, Operation *scope) {
  std::string name = getPackName(layer);
  Operation *other = SymbolTable::lookupSymbolIn(scope, name);
  if (!other)
    return success();
  InFlightDiagnostic error = layer.emitError()
                             << "the function that packs the weights of @"
                             << layer.getName() << " has to be called @" << name
                             << ", and there is one already: rename that, or @"
                             << layer.getName();
  error.attachNote(other->getLoc()) << "@" << name << " is here";
  return error;
}

FailureOr<func::FuncOp> mlir::moe::packWeights(func::FuncOp layer) {
  if (layer.isExternal())
    return func::FuncOp();
  SmallVector<PackedArgument> weights = findPackableWeights(layer);
  if (weights.empty())
    return func::FuncOp();
  Operation *scope = SymbolTable::getNearestSymbolTable(layer->getParentOp());
  if (!scope || !SymbolTable::symbolKnownUseEmpty(layer, scope)) {
    remarkNotPacked(weights.front().uses.front().op, "",
                    {"the function is called by others", "inline it first"});
    return func::FuncOp();
  }
  if (failed(checkPackName(layer, scope)))
    return failure();
  setAttributes(layer, weights);
  func::FuncOp pack = buildPackFunction(layer, weights);
  SymbolTable(scope).insert(pack, std::next(layer->getIterator()));
  SmallVector<BlockArgument> added;
  for (const PackedArgument &weight : weights)
    replaceArgument(layer, weight, added);
  SmallVector<int32_t> numbers =
      llvm::map_to_vector(added, [](BlockArgument argument) -> int32_t {
        return argument.getArgNumber();
      });
  Builder b(layer.getContext());
  layer->setAttr(kPackAttr, FlatSymbolRefAttr::get(pack));
  layer->setAttr(kPackedAttr, b.getDenseI32ArrayAttr(numbers));
  return pack;
}

func::FuncOp mlir::moe::findPack(func::FuncOp layer) {
  auto symbol = layer->getAttrOfType<FlatSymbolRefAttr>(kPackAttr);
  if (!symbol)
    return {};
  return SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(layer, symbol);
}

namespace {
struct PackWeightsPass final : moe::impl::MoEPackWeightsBase<PackWeightsPass> {
  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  void runOnOperation() override {
    auto functions =
        llvm::to_vector(getOperation()->getRegion(0).getOps<func::FuncOp>());
    for (func::FuncOp function : functions) {
      FailureOr<func::FuncOp> pack = packWeights(function);
      if (failed(pack))
        return signalPassFailure();
      if (*pack)
        numPacked += pack->getNumResults();
    }
  }
};
} // namespace
