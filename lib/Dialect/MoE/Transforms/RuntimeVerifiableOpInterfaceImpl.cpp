//===- RuntimeVerifiableOpInterfaceImpl.cpp - Run-time checks of moe ops --===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// What the verifier cannot see, asserted before the op: sizes that are dynamic,
// and the values of ids, offsets and slots.
//
//===----------------------------------------------------------------------===//

#include "RuntimeChecks.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Interfaces/RuntimeVerifiableOpInterface.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

using namespace mlir;
using namespace mlir::moe;

/// gate_c6 and gate_c8…c10, where k or E is known at run time only.
static void checkExperts(GroupsAttr groups, Value topK, Value numExperts,
                         Checks &c) {
  OpBuilder &b = c.builder;
  c.check(b, c.compare(b, arith::CmpIPredicate::sge, topK, c.index(1)),
          "k is not positive");
  c.check(b, c.compare(b, arith::CmpIPredicate::sle, topK, numExperts),
          "k is larger than the number of experts");
  if (!groups)
    return;
  Value count = c.index(groups.getCount());
  Value rest = arith::RemUIOp::create(b, c.loc, numExperts, count);
  c.check(b, c.compare(b, arith::CmpIPredicate::eq, rest, c.index(0)),
          "the count of the groups does not divide the number of experts");
  Value groupSize = arith::DivUIOp::create(b, c.loc, numExperts, count);
  Value kept =
      arith::MulIOp::create(b, c.loc, groupSize, c.index(groups.getKeep()));
  c.check(b, c.compare(b, arith::CmpIPredicate::sge, kept, topK),
          "the kept groups hold fewer experts than k");
  if (groups.getScore() == GroupScore::Top2Sum)
    c.check(b, c.compare(b, arith::CmpIPredicate::sge, groupSize, c.index(2)),
            "top2_sum has groups of fewer than two experts");
}

static void verifyAtRuntime(GateOp op, Checks &c) {
  c.sameSize(op.getLogits(), 0, op.getWeightsInit(), 0,
             "logits and weights differ in the number of tokens");
  c.sameSize(op.getLogits(), 0, op.getIdsInit(), 0,
             "logits and ids differ in the number of tokens");
  c.sameSize(op.getWeightsInit(), 1, op.getIdsInit(), 1,
             "weights and ids differ in k");
  if (op.getBias())
    c.sameSize(op.getBias(), 0, op.getLogits(), 1,
               "bias and logits differ in the number of experts");
  if (op.getMix()) {
    c.sameSize(op.getMix(), 0, op.getLogits(), 0,
               "mix and logits differ in the number of tokens");
    c.sameSize(op.getMix(), 1, op.getLogits(), 1,
               "mix and logits differ in the number of experts");
  }
  if (ShapedType::isDynamic(op.getNumExperts()) ||
      ShapedType::isDynamic(op.getTopK()))
    checkExperts(op.getGroupsAttr(), c.dim(op.getWeightsInit(), 1),
                 c.dim(op.getLogits(), 1), c);
}

/// M ≥ offsets[E], by a dispatch that moves no data.
template <typename OpTy>
static void checkEnoughRows(OpTy op, Checks &c, Value rows) {
  if (!op.hasPureTensorSemantics())
    return;
  SmallVector<Value> inits(op.getInits().take_front(2));
  auto plan = DispatchOp::create(
      c.builder, c.loc, TypeRange(inits), op.getIds(), ValueRange(),
      ValueRange(), op.getCapacity(), op.getPriority(), op.getTokensPerGroup(),
      inits, op.getOrder(), /*in_bounds=*/false);
  Value offsets = plan.getResult(0);
  Value last =
      arith::SubIOp::create(c.builder, c.loc, c.dim(offsets, 0), c.index(1));
  c.check(c.builder,
          c.compare(c.builder, arith::CmpIPredicate::sle,
                    c.load(c.builder, offsets, last), c.dim(rows, 0)),
          "there are fewer rows than choices that are kept; T·k rows always "
          "suffice");
}

/// What moe.dispatch and moe.plan have in common, but for the number of rows.
template <typename OpTy>
static void checkChoices(OpTy op, Checks &c) {
  Value ids = op.getIds();
  c.sameSize(op.getSlotsInit(), 0, ids, 0, "slots and ids differ in T");
  c.sameSize(op.getSlotsInit(), 1, ids, 1, "slots and ids differ in k");
  if (op.getPriority()) {
    c.sameSize(op.getPriority(), 0, ids, 0, "priority and ids differ in T");
    c.sameSize(op.getPriority(), 1, ids, 1, "priority and ids differ in k");
  }
  if (op.getTokensPerGroup())
    c.check(c.builder,
            c.compare(c.builder, arith::CmpIPredicate::sgt,
                      op.getTokensPerGroup(), c.index(0)),
            "tokens_per_group is not positive");
}

static void verifyAtRuntime(PlanOp op, Checks &c) {
  checkChoices(op, c);
  checkEnoughRows(op, c, op.getSourceInit());
}

static void verifyAtRuntime(DispatchOp op, Checks &c) {
  Value ids = op.getIds();
  checkChoices(op, c);
  for (auto [i, payload] : llvm::enumerate(op.getPayloads())) {
    c.sameSize(payload, 0, ids, 0, "a payload and ids differ in T");
    if (i >= op.getTokens().size())
      c.sameSize(payload, 1, ids, 1, "a choice payload and ids differ in k");
    Value rows = op.getRowInits()[i];
    c.sameSize(rows, 0, op.getRowInits()[0], 0,
               "row values differ in their number of rows");
    int64_t outerDims = i < op.getTokens().size() ? 1 : 2;
    for (int64_t d = 1; d < cast<ShapedType>(rows.getType()).getRank(); ++d)
      c.sameSize(rows, d, payload, d - 1 + outerDims,
                 "a row value and its payload differ in an inner size");
  }
  if (op.getInBounds()) {
    Value zero = c.index(0);
    Value numExperts = arith::SubIOp::create(
        c.builder, c.loc, c.dim(op.getOffsetsInit(), 0), c.index(1));
    c.forEachChoice(ids, [&](OpBuilder &b, Value t, Value j) {
      Value id = c.load(b, ids, {t, j});
      Value low = c.compare(b, arith::CmpIPredicate::sge, id, zero);
      Value high = c.compare(b, arith::CmpIPredicate::slt, id, numExperts);
      c.check(b, arith::AndIOp::create(b, c.loc, low, high),
              "an id is outside [0, E), but the op says in_bounds");
    });
  }
  if (!op.getRowInits().empty())
    checkEnoughRows(op, c, op.getRowInits()[0]);
}

/// M ≥ offsets[E], by the op itself with as many rows as always suffice.
static void checkEnoughRows(RouteOp op, Checks &c) {
  if (!op.hasPureTensorSemantics())
    return;
  OpBuilder &b = c.builder;
  Value numChoices = arith::MulIOp::create(
      b, c.loc, c.dim(op.getWeightsInit(), 0), c.dim(op.getWeightsInit(), 1));
  Value source = tensor::EmptyOp::create(
      b, c.loc, ArrayRef<OpFoldResult>{numChoices}, b.getI32Type());
  auto ample = cast<RouteOp>(b.clone(*op));
  ample.getInitsMutable()[4].set(source);
  ample->getResult(4).setType(cast<RankedTensorType>(source.getType()));
  Value offsets = ample->getResult(2);
  Value last = arith::SubIOp::create(b, c.loc, c.dim(offsets, 0), c.index(1));
  c.check(b,
          c.compare(b, arith::CmpIPredicate::sle, c.load(b, offsets, last),
                    c.dim(op.getSourceInit(), 0)),
          "there are fewer rows than choices that are kept; T·k rows always "
          "suffice");
}

/// route_c7 where sizes are dynamic and the index is t, e or j itself.
static void checkExtras(RouteOp op, Checks &c, OperandRange extras,
                        ArrayAttr maps) {
  for (auto [extra, map] :
       llvm::zip(extras, maps.getAsValueRange<AffineMapAttr>()))
    for (auto [dim, expr] : llvm::enumerate(map.getResults())) {
      auto index = dyn_cast<AffineDimExpr>(expr);
      if (!index)
        continue;
      bool isToken = index.getPosition() == RouteOp::kToken;
      bool isExpert = index.getPosition() == RouteOp::kExpert;
      Value counted = isToken    ? op.getX()
                      : isExpert ? op.getRouter()
                                 : op.getWeightsInit();
      int64_t countedDim = isToken ? 0 : isExpert && op.isExpertMajor() ? 0 : 1;
      auto isDynamic = [](Value value, int64_t d) {
        return cast<ShapedType>(value.getType()).isDynamicDim(d);
      };
      if (isDynamic(extra, dim) || isDynamic(counted, countedDim))
        c.check(c.builder,
                c.compare(c.builder, arith::CmpIPredicate::sge,
                          c.dim(extra, dim), c.dim(counted, countedDim)),
                "an extra has fewer elements than its index reaches");
    }
}

static void verifyAtRuntime(RouteOp op, Checks &c) {
  int64_t expertDim = op.isExpertMajor() ? 0 : 1;
  c.sameSize(op.getRouter(), 1 - expertDim, op.getX(), 1,
             "x and the router differ in K");
  for (Value init : {op.getWeightsInit(), op.getIdsInit(), op.getSlotsInit()}) {
    c.sameSize(init, 0, op.getX(), 0,
               "a destination and x differ in the number of tokens");
    if (init != op.getWeightsInit())
      c.sameSize(init, 1, op.getWeightsInit(), 1, "destinations differ in k");
  }
  for (Value perExpert : {op.getBias(), op.getIdMap()})
    if (perExpert)
      c.sameSize(perExpert, 0, op.getRouter(), expertDim,
                 "bias or id_map and the router differ in the number of "
                 "experts");
  if (op.getTokensPerGroup())
    c.check(c.builder,
            c.compare(c.builder, arith::CmpIPredicate::sgt,
                      op.getTokensPerGroup(), c.index(0)),
            "tokens_per_group is not positive");
  if (ShapedType::isDynamic(op.getNumRouterExperts()) ||
      ShapedType::isDynamic(op.getTopK()))
    checkExperts(op.getGroupsAttr(), c.dim(op.getWeightsInit(), 1),
                 c.dim(op.getRouter(), expertDim), c);
  checkExtras(op, c, op.getExtras(), op.getExtraMaps());
  checkExtras(op, c, op.getWeightExtras(), op.getWeightExtraMaps());
  checkEnoughRows(op, c);
}

void mlir::moe::checkOffsets(Checks &c, Value offsets, Value numRows) {
  Value zero = c.index(0), one = c.index(1);
  Value last = arith::SubIOp::create(c.builder, c.loc, c.dim(offsets, 0), one);
  c.check(c.builder,
          c.compare(c.builder, arith::CmpIPredicate::sge,
                    c.load(c.builder, offsets, zero), zero),
          "offsets[0] is negative");
  buildFor(c.builder, c.loc, zero, last, {},
           [&](OpBuilder &b, Location l, Value e, ValueRange) -> Carried {
             Value next = arith::AddIOp::create(b, l, e, one);
             c.check(b,
                     c.compare(b, arith::CmpIPredicate::sle,
                               c.load(b, offsets, e), c.load(b, offsets, next)),
                     "offsets go backwards");
             return {};
           });
  if (numRows)
    c.check(c.builder,
            c.compare(c.builder, arith::CmpIPredicate::sle,
                      c.load(c.builder, offsets, last), numRows),
            "offsets[E] is beyond the rows");
}

/// Inside the body, before it yields: as many rows as it was given, and the
/// inner sizes of the destinations. A result that is larger would be stored
/// over the rows of the next expert.
static void checkYielded(ExpertOp op, OpBuilder &b,
                         Checks::ErrorMessage message) {
  b.setInsertionPoint(op.getYieldOp());
  Checks c(op, b, op.getYieldOp().getLoc(), message);
  Value next = arith::AddIOp::create(b, c.loc, op.getExpertArg(), c.index(1));
  Value numRows =
      arith::SubIOp::create(b, c.loc, c.load(b, op.getOffsets(), next),
                            c.load(b, op.getOffsets(), op.getExpertArg()));
  for (auto [i, yielded] : llvm::enumerate(op.getYieldOp().getValues())) {
    bool isRow = op.isRowInit(i);
    if (isRow)
      c.check(
          b, c.compare(b, arith::CmpIPredicate::eq, c.dim(yielded, 0), numRows),
          "the body yields another number of rows than it was given");
    int64_t rank = cast<ShapedType>(yielded.getType()).getRank();
    for (int64_t d = isRow ? 1 : 0; d < rank; ++d)
      c.sameSize(yielded, d, op.getInits()[i], isRow ? d : d + 1,
                 "a yielded value and its destination differ in an inner size");
  }
}

static void verifyAtRuntime(ExpertOp op, Checks &c) {
  Value firstRows;
  auto checkRows = [&](Value rows) {
    if (firstRows)
      c.sameSize(rows, 0, firstRows, 0,
                 "row values differ in their number of rows");
    else
      firstRows = rows;
  };
  llvm::for_each(op.getRows(), checkRows);
  SmallVector<Value> perExpert(op.getParams());
  for (auto [i, init] : llvm::enumerate(op.getInits())) {
    if (op.isRowInit(i))
      checkRows(init);
    else
      perExpert.push_back(init);
  }
  Value numOffsets = c.dim(op.getOffsets(), 0);
  for (Value param : perExpert) {
    auto offsetsType = cast<ShapedType>(op.getOffsets().getType());
    if (!offsetsType.isDynamicDim(0) &&
        !cast<ShapedType>(param.getType()).isDynamicDim(0))
      continue;
    Value expected =
        arith::AddIOp::create(c.builder, c.loc, c.dim(param, 0), c.index(1));
    c.check(
        c.builder,
        c.compare(c.builder, arith::CmpIPredicate::eq, numOffsets, expected),
        "offsets and a per-expert value differ in the number of experts");
  }
  checkOffsets(c, op.getOffsets(), firstRows ? c.dim(firstRows, 0) : Value());
  OpBuilder inBody(op.getContext());
  checkYielded(op, inBody, c.message);
}

void mlir::moe::checkSlots(Checks &c, Value slots, Value numRows) {
  Value zero = c.index(0), minusOne = c.index(-1);
  Type i1 = c.builder.getI1Type();
  Value no = arith::ConstantIntOp::create(c.builder, c.loc, 0, 1);
  Value yes = arith::ConstantIntOp::create(c.builder, c.loc, 1, 1);
  Value taken = tensor::GenerateOp::create(
      c.builder, c.loc, RankedTensorType::get({ShapedType::kDynamic}, i1),
      numRows, [&](OpBuilder &b, Location l, ValueRange) {
        tensor::YieldOp::create(b, l, no);
      });
  auto visit = [&](OpBuilder &b, Value t, Value j, Value taken) -> Value {
    Value slot = c.load(b, slots, {t, j});
    Value low = c.compare(b, arith::CmpIPredicate::sge, slot, minusOne);
    Value high = c.compare(b, arith::CmpIPredicate::slt, slot, numRows);
    c.check(b, arith::AndIOp::create(b, c.loc, low, high),
            "a slot is outside [-1, M)");
    Value hasRow = c.compare(b, arith::CmpIPredicate::sge, slot, zero);
    return buildIf(
        b, c.loc, hasRow,
        [&](OpBuilder &b, Location l) -> Carried {
          Value isTaken = tensor::ExtractOp::create(b, l, taken, slot);
          c.check(b, arith::XOrIOp::create(b, l, isTaken, yes),
                  "slots collide: two choices share a row");
          return {tensor::InsertOp::create(b, l, yes, taken, slot)};
        },
        [&](OpBuilder &, Location) -> Carried { return {taken}; })[0];
  };
  buildFor(c.builder, c.loc, zero, c.dim(slots, 0), taken,
           [&](OpBuilder &b, Location l, Value t, ValueRange outer) {
             return buildFor(b, l, zero, c.dim(slots, 1), outer,
                             [&](OpBuilder &b, Location, Value j,
                                 ValueRange inner) -> Carried {
                               return {visit(b, t, j, inner[0])};
                             });
           });
}

static void verifyAtRuntime(CombineOp op, Checks &c) {
  c.sameSize(op.getWeights(), 0, op.getSlots(), 0,
             "weights and slots differ in T");
  c.sameSize(op.getWeights(), 1, op.getSlots(), 1,
             "weights and slots differ in k");
  c.sameSize(op.getInit(), 0, op.getSlots(), 0,
             "the destination and slots differ in T");
  c.sameSize(op.getInit(), 1, op.getRows(), 1,
             "the destination and rows differ in H");
  if (op.getBase()) {
    c.sameSize(op.getBase(), 0, op.getInit(), 0,
               "base and the destination differ in T");
    c.sameSize(op.getBase(), 1, op.getInit(), 1,
               "base and the destination differ in H");
  }
  checkSlots(c, op.getSlots(), c.dim(op.getRows(), 0));
}

namespace {
template <typename OpTy>
struct Model : RuntimeVerifiableOpInterface::ExternalModel<Model<OpTy>, OpTy> {
  void generateRuntimeVerification(Operation *op, OpBuilder &builder,
                                   Location loc,
                                   Checks::ErrorMessage message) const {
    Checks checks(op, builder, loc, message);
    verifyAtRuntime(cast<OpTy>(op), checks);
  }
};
} // namespace

void mlir::moe::registerRuntimeVerifiableOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoEDialect *) {
    GateOp::attachInterface<Model<GateOp>>(*context);
    DispatchOp::attachInterface<Model<DispatchOp>>(*context);
    ExpertOp::attachInterface<Model<ExpertOp>>(*context);
    CombineOp::attachInterface<Model<CombineOp>>(*context);
    PlanOp::attachInterface<Model<PlanOp>>(*context);
    GroupedMatmulOp::attachInterface<Model<GroupedMatmulOp>>(*context);
    RouteOp::attachInterface<Model<RouteOp>>(*context);
    context->loadDialect<arith::ArithDialect, cf::ControlFlowDialect,
                         memref::MemRefDialect, scf::SCFDialect,
                         tensor::TensorDialect>();
  });
}
