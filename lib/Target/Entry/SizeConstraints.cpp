//===- SizeConstraints.cpp - What ops demand of sizes ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A layer whose number of experts is dynamic takes five tensors with that
/// size. The verifier cannot compare them, and reading 9 experts where there
/// are 8 is a crash in the caller's process. So the entry compares what its ops
/// take for granted.
///
//===----------------------------------------------------------------------===//

#include "EntryShapes.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Dimension `dim` of `tensor`.
struct Dim {
  Value tensor;
  int64_t dim;
};

class Collector {
public:
  Collector(OpBuilder &builder, SmallVectorImpl<SizeConstraint> &constraints)
      : builder(builder), constraints(constraints) {}

  void visit(Operation *op);

private:
  void visitLinalg(linalg::LinalgOp op);
  void visitElementwise(Operation *op);
  void visitGate(GateOp op);
  /// `k` choices are possible: gate_c6, and gate_c8 and gate_c9 with groups.
  void visitChoices(Location loc, Dim experts, Dim k, GroupsAttr groups);
  void visitDispatch(DispatchOp op);
  void visitExpert(ExpertOp op);
  void visitOffsets(Value offsets, ArrayRef<Dim> numExperts);
  void visitBody(ExpertOp op);
  void visitCombine(CombineOp op);
  void visitRoute(RouteOp op);
  void visitPlan(PlanOp op);
  void visitGroupedMatmul(GroupedMatmulOp op);

  /// All of `dims` have one size; a tensor that is null is skipped.
  void equal(ArrayRef<Dim> dims);
  /// Both tensors, null or of one rank, agree in `count` dimensions, counted
  /// from `firstDim` and `secondDim`.
  void equal(Value first, int64_t firstDim, Value second, int64_t secondDim,
             int64_t count);
  Value size(Dim dim) {
    return tensor::DimOp::create(builder, dim.tensor.getLoc(), dim.tensor,
                                 dim.dim);
  }
  static bool isDynamic(Dim dim) {
    return cast<RankedTensorType>(dim.tensor.getType()).isDynamicDim(dim.dim);
  }

  OpBuilder &builder;
  SmallVectorImpl<SizeConstraint> &constraints;
};

} // namespace

void Collector::equal(ArrayRef<Dim> dims) {
  const Dim *first = nullptr;
  for (const Dim &dim : dims) {
    if (!dim.tensor)
      continue;
    if (first && (isDynamic(*first) || isDynamic(dim)))
      constraints.push_back({size(*first), size(dim)});
    if (!first)
      first = &dim;
  }
}

void Collector::equal(Value first, int64_t firstDim, Value second,
                      int64_t secondDim, int64_t count) {
  if (!first || !second)
    return;
  for (int64_t i = 0; i < count; ++i)
    equal({{first, firstDim + i}, {second, secondDim + i}});
}

static int64_t getRank(Value tensor) {
  return cast<RankedTensorType>(tensor.getType()).getRank();
}

/// Operands that are indexed by one loop alone have the size of that loop.
void Collector::visitLinalg(linalg::LinalgOp op) {
  llvm::MapVector<unsigned, SmallVector<Dim>> dimsOfLoop;
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<RankedTensorType>(operand.get().getType()))
      continue;
    AffineMap map = op.getMatchingIndexingMap(&operand);
    for (auto [i, expr] : llvm::enumerate(map.getResults()))
      if (auto loop = dyn_cast<AffineDimExpr>(expr))
        dimsOfLoop[loop.getPosition()].push_back(
            {operand.get(), static_cast<int64_t>(i)});
  }
  for (auto &[loop, dims] : dimsOfLoop)
    equal(dims);
}

void Collector::visitElementwise(Operation *op) {
  Value first;
  for (Value operand : op->getOperands()) {
    if (!isa<RankedTensorType>(operand.getType()))
      continue;
    if (first && getRank(first) == getRank(operand))
      equal(first, 0, operand, 0, getRank(first));
    else
      first = operand;
  }
}

void Collector::visitGate(GateOp op) {
  equal({{op.getLogits(), 0}, {op.getWeightsInit(), 0}, {op.getIdsInit(), 0}});
  equal({{op.getWeightsInit(), 1}, {op.getIdsInit(), 1}});
  equal({{op.getLogits(), 1}, {op.getBias(), 0}});
  equal(op.getLogits(), 0, op.getMix(), 0, 2);
  visitChoices(op.getLoc(), {op.getLogits(), 1}, {op.getIdsInit(), 1},
               op.getGroupsAttr());
}

void Collector::visitChoices(Location loc, Dim experts, Dim k,
                             GroupsAttr groups) {
  if (!isDynamic(experts) && !isDynamic(k))
    return;
  auto constant = [&](int64_t value) -> Value {
    return arith::ConstantIndexOp::create(builder, loc, value);
  };
  Value candidates = size(experts);
  if (groups) {
    Value count = constant(groups.getCount());
    Value rest = arith::RemUIOp::create(builder, loc, candidates, count);
    constraints.push_back({constant(0), rest});
    Value groupSize = arith::DivUIOp::create(builder, loc, candidates, count);
    candidates = arith::MulIOp::create(builder, loc, groupSize,
                                       constant(groups.getKeep()));
  }
  constraints.push_back({size(k), candidates, arith::CmpIPredicate::ugt});
}

void Collector::visitDispatch(DispatchOp op) {
  Value ids = op.getIds();
  equal(ids, 0, op.getInits()[1], 0, 2);
  equal(ids, 0, op.getPriority(), 0, 2);
  for (Value payload : op.getTokens())
    equal(ids, 0, payload, 0, 1);
  for (Value payload : op.getChoices())
    equal(ids, 0, payload, 0, 2);
  SmallVector<Dim> numRows;
  for (auto [i, payload, rows] :
       llvm::enumerate(op.getPayloads(), op.getRowInits())) {
    numRows.push_back({rows, 0});
    int64_t outerDims = i < op.getTokens().size() ? 1 : 2;
    equal(payload, outerDims, rows, 1, getRank(rows) - 1);
  }
  equal(numRows);
}

void Collector::visitExpert(ExpertOp op) {
  SmallVector<Dim> numRows, numExperts;
  for (Value rows : op.getRows())
    numRows.push_back({rows, 0});
  for (Value params : op.getParams())
    numExperts.push_back({params, 0});
  for (auto [i, init] : llvm::enumerate(op.getInits()))
    (op.isRowInit(i) ? numRows : numExperts).push_back({init, 0});
  equal(numRows);
  equal(numExperts);
  visitOffsets(op.getOffsets(), numExperts);
  visitBody(op);
}

void Collector::visitOffsets(Value offsets, ArrayRef<Dim> numExperts) {
  if (numExperts.empty() ||
      (!isDynamic(numExperts[0]) && !isDynamic({offsets, 0})))
    return;
  // offsets has one element more than there are experts.
  Location loc = offsets.getLoc();
  Value one = arith::ConstantIndexOp::create(builder, loc, 1);
  Value expected =
      arith::AddIOp::create(builder, loc, size(numExperts[0]), one);
  constraints.push_back({size({offsets, 0}), expected});
}

void Collector::visitCombine(CombineOp op) {
  equal(op.getSlots(), 0, op.getWeights(), 0, 2);
  equal({{op.getSlots(), 0}, {op.getInit(), 0}});
  equal({{op.getRows(), 1}, {op.getInit(), 1}});
  equal(op.getInit(), 0, op.getBase(), 0, 2);
}

/// The sizes that go by each dimension of an op's index expressions; what is
/// indexed by more than a dimension alone has another size.
static void collectDims(Value operand, AffineMap map,
                        MutableArrayRef<SmallVector<Dim>> dims) {
  for (auto [i, expr] : llvm::enumerate(map.getResults()))
    if (auto dim = dyn_cast<AffineDimExpr>(expr))
      dims[dim.getPosition()].push_back({operand, static_cast<int64_t>(i)});
}

void Collector::visitRoute(RouteOp op) {
  SmallVector<Dim> dims[RouteOp::kNumDims];
  auto maps =
      llvm::to_vector(op.getRouterMaps().getAsValueRange<AffineMapAttr>());
  collectDims(op.getX(), maps[0], dims);
  collectDims(op.getRouter(), maps[1], dims);
  for (auto [extra, map] : llvm::zip(
           op.getExtras(), op.getExtraMaps().getAsValueRange<AffineMapAttr>()))
    collectDims(extra, map, dims);
  for (auto [extra, map] :
       llvm::zip(op.getWeightExtras(),
                 op.getWeightExtraMaps().getAsValueRange<AffineMapAttr>()))
    collectDims(extra, map, dims);
  for (Value init : {op.getIdsInit(), op.getWeightsInit(), op.getSlotsInit()}) {
    dims[RouteOp::kToken].push_back({init, 0});
    dims[RouteOp::kChoice].push_back({init, 1});
  }
  SmallVector<Dim> &experts = dims[RouteOp::kExpert];
  experts.append({{op.getBias(), 0}, {op.getIdMap(), 0}});
  for (ArrayRef<Dim> same : dims)
    equal(same);
  visitChoices(op.getLoc(), experts.front(), {op.getIdsInit(), 1},
               op.getGroupsAttr());
}

void Collector::visitPlan(PlanOp op) {
  equal(op.getIds(), 0, op.getSlotsInit(), 0, 2);
  equal(op.getIds(), 0, op.getPriority(), 0, 2);
}

/// The tokens that the choices in `source` are of, if that can be told.
static std::optional<Dim> getTokens(Value source) {
  if (!source)
    return std::nullopt;
  if (auto plan = source.getDefiningOp<PlanOp>())
    return Dim{plan.getIds(), 0};
  if (auto route = source.getDefiningOp<RouteOp>())
    return Dim{route.getX(), 0};
  return std::nullopt;
}

void Collector::visitGroupedMatmul(GroupedMatmulOp op) {
  using Op = GroupedMatmulOp;
  SmallVector<Dim> dims[Op::kNumDims];
  if (std::optional<Dim> tokens = getTokens(op.getSource()))
    dims[Op::kToken].push_back(*tokens);
  for (const Op::Product &product : op.getProducts()) {
    for (const Op::Term &term : product) {
      collectDims(term.lhs, term.lhsMap, dims);
      for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
        collectDims(extra, map, dims);
      for (auto [stored, map] : llvm::zip(term.stored, term.storedMaps))
        collectDims(stored, map, dims);
      equal(dims[Op::kSum]); // Each term has a k of its own.
      dims[Op::kSum].clear();
    }
  }
  for (auto [extra, map] : llvm::zip(
           op.getExtras(), op.getExtraMaps().getAsValueRange<AffineMapAttr>()))
    collectDims(extra, map, dims);
  for (Value init : op.getInits()) {
    dims[Op::kColumn].push_back({init, 1});
    if (!op.isCombining())
      dims[Op::kRow].push_back({init, 0});
  }
  for (ArrayRef<Dim> same : dims)
    equal(same);
  visitOffsets(op.getOffsets(), dims[Op::kExpert]);
  if (!op.isCombining())
    return;
  equal(op.getSlots(), 0, op.getWeights(), 0, 2);
  equal({{op.getSlots(), 0}, {op.getInits()[0], 0}});
  equal(op.getInits()[0], 0, op.getBase(), 0, 2);
}

void Collector::visit(Operation *op) {
  builder.setInsertionPoint(op);
  if (!llvm::all_of(op->getOperandTypes(),
                    [](Type type) { return !isa<MemRefType>(type); }))
    return;
  if (auto gate = dyn_cast<GateOp>(op))
    return visitGate(gate);
  if (auto dispatch = dyn_cast<DispatchOp>(op))
    return visitDispatch(dispatch);
  if (auto expert = dyn_cast<ExpertOp>(op))
    return visitExpert(expert);
  if (auto combine = dyn_cast<CombineOp>(op))
    return visitCombine(combine);
  if (auto route = dyn_cast<RouteOp>(op))
    return visitRoute(route);
  if (auto plan = dyn_cast<PlanOp>(op))
    return visitPlan(plan);
  if (auto matmul = dyn_cast<GroupedMatmulOp>(op))
    return visitGroupedMatmul(matmul);
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op))
    return visitLinalg(linalgOp);
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    if (isa<RankedTensorType>(cast.getSource().getType()) &&
        isa<RankedTensorType>(cast.getType())) {
      builder.setInsertionPointAfter(op); // It asks for the result's sizes.
      return equal(cast.getSource(), 0, cast.getResult(), 0,
                   getRank(cast.getResult()));
    }
  if (OpTrait::hasElementwiseMappableTraits(op))
    visitElementwise(op);
}

/// A slice of `tensor`: `numRows` of it, or without them one, dropped.
static Value takeSlice(OpBuilder &builder, Value tensor, Value numRows = {}) {
  Location loc = tensor.getLoc();
  auto type = cast<RankedTensorType>(tensor.getType());
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(builder, loc, tensor);
  SmallVector<OpFoldResult> offsets(type.getRank(), builder.getIndexAttr(0));
  SmallVector<OpFoldResult> strides(type.getRank(), builder.getIndexAttr(1));
  sizes[0] = numRows ? OpFoldResult(numRows) : builder.getIndexAttr(1);
  auto sliceType = numRows
                       ? tensor::ExtractSliceOp::inferResultType(type, sizes)
                       : type.clone(type.getShape().drop_front());
  return tensor::ExtractSliceOp::create(builder, loc, sliceType, tensor,
                                        offsets, sizes, strides);
}

/// Copies the body behind `op`, where the visit comes next.
void Collector::visitBody(ExpertOp op) {
  Location loc = op.getLoc();
  builder.setInsertionPointAfter(op);
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  // What the data decides, sizes of arguments do not: any element of it will
  // do.
  Value offset = tensor::ExtractOp::create(builder, loc, op.getOffsets(), zero);
  Value numRows =
      arith::IndexCastOp::create(builder, loc, builder.getIndexType(), offset);
  IRMapping mapping;
  auto map = [&](BlockArgument argument, Value slice) {
    if (slice.getType() != argument.getType())
      slice = tensor::CastOp::create(builder, loc, argument.getType(), slice);
    mapping.map(argument, slice);
  };
  mapping.map(op.getExpertArg(), zero);
  for (auto [argument, rows] : llvm::zip(op.getRowArgs(), op.getRows()))
    map(argument, takeSlice(builder, rows, numRows));
  for (auto [argument, params] : llvm::zip(op.getParamArgs(), op.getParams()))
    map(argument, takeSlice(builder, params));
  for (Operation &inner : op.getBody().front().without_terminator())
    builder.clone(inner, mapping);
  for (auto [i, yielded, init] :
       llvm::enumerate(op.getYieldOp().getValues(), op.getInits())) {
    int64_t firstDim = op.isRowInit(i) ? 1 : 0;
    equal(init, 1, mapping.lookupOrDefault(yielded), firstDim,
          getRank(init) - 1);
  }
}

void mlir::moe::collectSizeConstraints(
    Block &block, OpBuilder &builder,
    SmallVectorImpl<SizeConstraint> &constraints) {
  Collector collector(builder, constraints);
  for (Operation &op : block)
    collector.visit(&op);
}
