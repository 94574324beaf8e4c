//===- RandomLayer.cpp - Random valid IR ------------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RandomLayer.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::test;

//===----------------------------------------------------------------------===//
// RandomBuilder
//===----------------------------------------------------------------------===//

RandomBuilder::RandomBuilder(Random &random, MLIRContext *context)
    : random(random), builder(context), loc(builder.getUnknownLoc()) {
  context->loadDialect<arith::ArithDialect, func::FuncDialect,
                       linalg::LinalgDialect, math::MathDialect,
                       scf::SCFDialect, tensor::TensorDialect>();
  module = ModuleOp::create(loc);
  builder.setInsertionPointToEnd(module->getBody());
  function = func::FuncOp::create(builder, loc, "layer",
                                  builder.getFunctionType({}, {}));
  entry = function.addEntryBlock();
  builder.setInsertionPointToEnd(entry);
}

OwningOpRef<ModuleOp> RandomBuilder::finish(ValueRange results) {
  func::ReturnOp::create(builder, loc, results);
  function.setFunctionType(
      builder.getFunctionType(entry->getArgumentTypes(), results.getTypes()));
  return std::move(module);
}

RankedTensorType RandomBuilder::makeType(ArrayRef<Size> sizes,
                                         Type elementType) {
  SmallVector<int64_t> shape;
  for (Size size : sizes)
    shape.push_back(random.oneIn(6) ? ShapedType::kDynamic : size.number);
  return RankedTensorType::get(shape, elementType);
}

Value RandomBuilder::makeTensor(ArrayRef<Size> sizes, Type elementType) {
  RankedTensorType type = makeType(sizes, elementType);
  if (random.oneIn(2))
    return argument(type);
  SmallVector<Value> dynamicSizes;
  for (auto [dim, size] : llvm::enumerate(sizes))
    if (type.isDynamicDim(dim))
      dynamicSizes.push_back(sizeValue(size));
  return tensor::EmptyOp::create(builder, loc, type, dynamicSizes);
}

Value RandomBuilder::makeEmpty(ArrayRef<Size> sizes, Type elementType) {
  SmallVector<OpFoldResult> mixed;
  for (Size size : sizes)
    mixed.push_back(size.isKnown()
                        ? OpFoldResult(builder.getIndexAttr(size.number))
                        : OpFoldResult(size.value));
  return tensor::EmptyOp::create(builder, loc, mixed, elementType);
}

Value RandomBuilder::makeIndex(int64_t value) {
  return arith::ConstantIndexOp::create(builder, loc, value);
}

Type RandomBuilder::makeFloatType() {
  return random.choose<Type>({builder.getF32Type(), builder.getF32Type(),
                              builder.getBF16Type(), builder.getF16Type()});
}

Type RandomBuilder::makeElementType() {
  if (!random.oneIn(3))
    return makeFloatType();
  return random.choose<Type>({builder.getF64Type(), builder.getI1Type(),
                              builder.getI8Type(), builder.getI32Type(),
                              builder.getI64Type(), builder.getIndexType(),
                              builder.getType<Float8E4M3FNType>()});
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

/// Groups of E experts that leave at least k to select from; null if there are
/// none.
static GroupsAttr makeGroups(RandomBuilder &b, const LayerSizes &sizes) {
  if (!sizes.experts.isKnown())
    return {};
  int64_t numExperts = sizes.experts.number;
  SmallVector<int64_t> counts;
  for (int64_t count = 1; count <= numExperts; ++count)
    if (numExperts % count == 0)
      counts.push_back(count);
  int64_t count = b.random.choose(counts), size = numExperts / count;
  int64_t topK = sizes.topK.isKnown() ? sizes.topK.number : numExperts;
  int64_t fewest = std::max<int64_t>(llvm::divideCeil(topK, size), 1);
  auto score =
      size > 1 && b.random.oneIn(2) ? GroupScore::Top2Sum : GroupScore::Max;
  auto mask = b.random.oneIn(2) ? GroupMask::Zero : GroupMask::NegInf;
  return GroupsAttr::get(b.builder.getContext(), count,
                         b.random.between(fewest, count), score, mask);
}

static RenormalizeAttr makeRenormalize(RandomBuilder &b) {
  FloatAttr epsilon;
  if (b.random.oneIn(2))
    epsilon =
        b.builder.getF32FloatAttr(b.random.choose({0.0f, 1e-20f, 0.5f, 3e38f}));
  return RenormalizeAttr::get(b.builder.getContext(), epsilon,
                              b.random.oneIn(2) ? EpsMode::Clamp
                                                : EpsMode::Add);
}

/// {weights, ids}
static SmallVector<Value> buildGate(RandomBuilder &b, const LayerSizes &sizes) {
  Random &random = b.random;
  Type f32 = b.builder.getF32Type();
  auto ofExperts = [&] {
    return b.makeTensor({sizes.tokens, sizes.experts}, f32);
  };
  Value logits = ofExperts();
  Value bias = random.oneIn(3) ? b.makeTensor({sizes.experts}, f32) : Value();
  Value mix = random.oneIn(4) ? ofExperts() : Value();
  SmallVector<Value> inits = {
      b.makeTensor({sizes.tokens, sizes.topK}, f32),
      b.makeTensor({sizes.tokens, sizes.topK}, b.builder.getI32Type())};
  Score score = static_cast<Score>(random.pick(4));
  SoftmaxScope scope = score == Score::Softmax && random.oneIn(2)
                           ? SoftmaxScope::Selected
                           : SoftmaxScope::All;
  SelectOn selectOn = random.oneIn(3) ? SelectOn::Logits : SelectOn::Scores;
  GroupsAttr groups = random.oneIn(3) ? makeGroups(b, sizes) : GroupsAttr();
  RenormalizeAttr renormalize =
      random.oneIn(2) ? makeRenormalize(b) : RenormalizeAttr();
  float scale = random.choose({1.0f, 1.0f, 2.5f, -1.0f, 0.0f, 1e-40f});
  return GateOp::create(b.builder, b.loc, TypeRange(inits), logits, bias, mix,
                        inits, score, selectOn, scope, groups, renormalize,
                        llvm::APFloat(scale))
      .getResults();
}

namespace {
/// How many choices an expert takes, and which.
struct Limits {
  Value capacity, priority, tokensPerGroup;
  CapacityOrder order = CapacityOrder::TokenMajor;
};
} // namespace

static Limits makeLimits(RandomBuilder &b, const LayerSizes &sizes) {
  Random &random = b.random;
  Limits limits;
  if (random.oneIn(2))
    return limits;
  auto makeLimit = [&] {
    return random.oneIn(2) ? b.argument(b.builder.getIndexType())
                           : b.makeIndex(random.between(-1, 9));
  };
  limits.capacity = makeLimit();
  if (random.oneIn(3))
    limits.priority =
        b.makeTensor({sizes.tokens, sizes.topK}, b.builder.getF32Type());
  if (random.oneIn(3))
    limits.tokensPerGroup = makeLimit();
  if (random.oneIn(2))
    limits.order = CapacityOrder::ChoiceMajor;
  return limits;
}

namespace {
/// Results of a dispatch.
struct Dispatched {
  Value offsets, slots;
  SmallVector<Value> rows;
};
} // namespace

/// Widths are few, so that the operands of contractions find each other.
static Size makeWidth(RandomBuilder &b) {
  return b.random.choose({1, 3, 4, 8, b.random.oneIn(6) ? 0 : 4});
}

static Dispatched buildDispatch(RandomBuilder &b, const LayerSizes &sizes,
                                Value ids) {
  Random &random = b.random;
  OpBuilder &builder = b.builder;
  SmallVector<Value> tokens, choices;
  SmallVector<Value> inits = {
      b.makeTensor({sizes.offsets}, builder.getI32Type()),
      b.makeTensor({sizes.tokens, sizes.topK}, builder.getI32Type())};
  auto addPayload = [&](bool isToken) {
    SmallVector<Size> outer = {sizes.tokens}, inner;
    if (!isToken)
      outer.push_back(sizes.topK);
    for (uint64_t left = random.pick(3); left > 0; --left)
      inner.push_back(makeWidth(b));
    SmallVector<Size> payload(outer), rows = {sizes.rows};
    llvm::append_range(payload, inner);
    llvm::append_range(rows, inner);
    Type elementType =
        inner.size() == 1 ? b.makeFloatType() : b.makeElementType();
    (isToken ? tokens : choices).push_back(b.makeTensor(payload, elementType));
    inits.push_back(b.makeTensor(rows, elementType));
  };
  for (uint64_t left = random.pick(4); left > 0; --left)
    addPayload(/*isToken=*/true);
  for (uint64_t left = random.pick(3); left > 0; --left)
    addPayload(/*isToken=*/false);

  Limits limits = makeLimits(b, sizes);
  auto op = DispatchOp::create(builder, b.loc, TypeRange(inits), ids, tokens,
                               choices, limits.capacity, limits.priority,
                               limits.tokensPerGroup, inits, limits.order,
                               /*in_bounds=*/random.oneIn(4));
  ValueRange results = op.getResults();
  return {results[0], results[1], SmallVector<Value>(results.drop_front(2))};
}

static SmallVector<Value> buildPlan(RandomBuilder &b, const LayerSizes &sizes,
                                    Value ids) {
  Type i32 = b.builder.getI32Type();
  SmallVector<Value> inits = {b.makeTensor({sizes.offsets}, i32),
                              b.makeTensor({sizes.tokens, sizes.topK}, i32),
                              b.makeTensor({sizes.rows}, i32)};
  Limits limits = makeLimits(b, sizes);
  return PlanOp::create(b.builder, b.loc, TypeRange(inits), ids,
                        limits.capacity, limits.priority, limits.tokensPerGroup,
                        inits, limits.order)
      .getResults();
}

/// True if moe.combine takes `rows`.
static bool canCombine(Value rows) {
  auto type = cast<RankedTensorType>(rows.getType());
  Type elementType = type.getElementType();
  return type.getRank() == 2 &&
         (elementType.isF32() || elementType.isBF16() || elementType.isF16());
}

static Value buildCombine(RandomBuilder &b, const LayerSizes &sizes, Value rows,
                          Value slots, Value weights) {
  auto type = cast<RankedTensorType>(rows.getType());
  // A width that the type of the rows does not tell is a value.
  Size width =
      type.isDynamicDim(1)
          ? Size(tensor::DimOp::create(b.builder, b.loc, rows, 1).getResult())
          : Size(type.getDimSize(1));
  if (!weights || b.random.oneIn(3))
    weights = b.makeTensor({sizes.tokens, sizes.topK}, b.makeFloatType());
  Value base = b.random.oneIn(3)
                   ? b.makeTensor({sizes.tokens, width}, b.makeFloatType())
                   : Value();
  Value init = b.makeTensor({sizes.tokens, width}, b.makeFloatType());
  return CombineOp::create(b.builder, b.loc, TypeRange(init), rows, slots,
                           weights, base, init)
      .getResult(0);
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

static LayerSizes makeSizes(RandomBuilder &b) {
  Random &random = b.random;
  auto unknown = [&] { return Size(b.argument(b.builder.getIndexType())); };
  LayerSizes sizes = {unknown(), 1, 1, 2, 1};
  if (random.oneIn(3))
    sizes.tokens = random.choose({0, 1, 2, 7});
  if (random.oneIn(6)) {
    sizes.experts = unknown();
    sizes.topK = random.between(1, 3);
    sizes.offsets = arith::AddIOp::create(b.builder, b.loc, sizes.experts.value,
                                          b.makeIndex(1))
                        .getResult();
  } else {
    sizes.experts = random.choose({1, 2, 3, 4, 6, 8, 64});
    sizes.offsets = sizes.experts.number + 1;
    int64_t most = sizes.experts.number;
    sizes.topK = random.oneIn(4) ? Size(most)
                 : random.oneIn(8)
                     ? unknown()
                     : random.between(1, std::min<int64_t>(most, 3));
  }
  if (sizes.tokens.isKnown() && sizes.topK.isKnown())
    sizes.rows = sizes.tokens.number * sizes.topK.number;
  else
    sizes.rows =
        arith::MulIOp::create(b.builder, b.loc, b.sizeValue(sizes.tokens),
                              b.sizeValue(sizes.topK))
            .getResult();
  if (random.oneIn(6))
    sizes.rows = unknown();
  return sizes;
}

/// Weights E×… for the bodies of experts.
static SmallVector<Value> makeParams(RandomBuilder &b,
                                     const LayerSizes &sizes) {
  SmallVector<Value> params;
  for (uint64_t left = b.random.pick(5); left > 0; --left) {
    SmallVector<Size> shape = {sizes.experts};
    for (uint64_t rank = b.random.pick(8) ? 1 + b.random.pick(2) : 0; rank > 0;
         --rank)
      shape.push_back(makeWidth(b));
    params.push_back(b.makeTensor(shape, b.makeFloatType()));
  }
  return params;
}

/// Each of `values` half of the time.
static SmallVector<Value> chooseSome(Random &random, ValueRange values) {
  SmallVector<Value> chosen;
  for (Value value : values)
    if (random.oneIn(2))
      chosen.push_back(value);
  return chosen;
}

OwningOpRef<ModuleOp> mlir::moe::test::makeRandomLayer(Random &random,
                                                       MLIRContext *context) {
  RandomBuilder b(random, context);
  LayerSizes sizes = makeSizes(b);
  SmallVector<Value> results;
  Value weights, ids;
  if (!random.oneIn(4)) {
    SmallVector<Value> gate = buildGate(b, sizes);
    weights = gate[0];
    ids = gate[1];
    llvm::append_range(results, chooseSome(random, gate));
  } else {
    ids = b.makeTensor({sizes.tokens, sizes.topK}, b.builder.getI32Type());
  }
  if (random.oneIn(4))
    llvm::append_range(results, buildPlan(b, sizes, ids));
  Dispatched dispatched = buildDispatch(b, sizes, ids);
  SmallVector<Value> rows = dispatched.rows;
  for (uint64_t left = random.pick(3); left > 0; --left) {
    ExpertOperands operands = {dispatched.offsets, chooseSome(random, rows),
                               makeParams(b, sizes)};
    llvm::append_range(rows, buildRandomExpert(b, sizes, operands));
    // Per-expert results are no rows for the next expert or for combine.
    llvm::append_range(results, chooseSome(random, rows));
    llvm::erase_if(rows, [&](Value value) {
      auto expert = value.getDefiningOp<ExpertOp>();
      return expert &&
             !expert.isRowInit(cast<OpResult>(value).getResultNumber());
    });
  }
  for (Value value : rows)
    if (canCombine(value) && random.oneIn(2))
      results.push_back(
          buildCombine(b, sizes, value, dispatched.slots, weights));
  llvm::append_range(results, chooseSome(random, dispatched.rows));
  return b.finish(results);
}
