//===- Cost.cpp - What a layer costs, counted in the IR ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/Cost.h"

#include "WeightUses.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/Analysis/SizeEvaluator.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallPtrSet.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {

/// Adds up one function. A size that is not known is reported once and counts
/// as 0 from then on.
class CostBuilder {
public:
  CostBuilder(FunctionOpInterface function, const CostQuery &query)
      : function(function), query(query), weights(function),
        sizes([this](BlockArgument argument, unsigned dim) {
          return getArgumentSize(argument, dim);
        }) {}

  FailureOr<LayerCost> run();

private:
  std::optional<int64_t> getArgumentSize(BlockArgument argument, unsigned dim);
  void fail(Operation *op, const Twine &message);
  void failSize(Operation *op, Value tensor);

  /// Sizes and bytes of a value that `op` uses.
  double getSize(Operation *op, Value tensor, unsigned dim);
  double getBytes(Operation *op, Value tensor, SizeEvaluator &evaluator);
  double getBytes(Operation *op, Value tensor) {
    return getBytes(op, tensor, sizes);
  }

  const ExpertLoad &getLoad(Operation *op, Value offsets, Value rows);
  ExpertLoad makeLoad(Operation *op, Value slots, Value offsets, Value capacity,
                      Value tokensPerGroup);

  void addOp(Operation *op);
  void addReads(Operation *op, ValueRange operands, Cost &cost,
                SizeEvaluator &evaluator);
  void addWrites(Operation *op, ValueRange tensors, Cost &cost,
                 SizeEvaluator &evaluator);
  void addRowWrites(Operation *op, ValueRange rows, double numRows, Cost &cost);
  Cost getPlainCost(Operation *op, SizeEvaluator &evaluator);
  Cost getDispatchCost(DispatchOp op);
  Cost getCombineCost(CombineOp op);
  Cost getRouteCost(RouteOp op);
  Cost getMatmulCost(Matmul op);
  double getColumnShare(Matmul op, Value operand, AffineMap map,
                        double numColumns);
  void addOperands(Matmul op, const ExpertLoad &load, Cost &cost);
  void addMapped(Matmul op, Value operand, AffineMap map,
                 const ExpertLoad &load, Cost &cost);
  Cost getExpertCost(ExpertOp op);
  Cost getBodyCost(ExpertOp op, int64_t numRows, double &intermediate);
  void addIntermediates(Operation *op, SizeEvaluator &evaluator, double &bytes);

  FunctionOpInterface function;
  const CostQuery &query;
  WeightUses weights;
  SizeEvaluator sizes;
  LayerCost layer;
  bool hasFailed = false;
  llvm::DenseMap<Operation *, ExpertLoad> loads;
  llvm::SmallPtrSet<Value, 4> returned;
};

} // namespace

//===----------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------===//

void CostBuilder::fail(Operation *op, const Twine &message) {
  if (!hasFailed)
    op->emitError() << "the cost of '" << op->getName().getStringRef() << "' "
                    << message.str();
  hasFailed = true;
}

void CostBuilder::failSize(Operation *op, Value tensor) {
  std::string type;
  llvm::raw_string_ostream(type) << tensor.getType();
  StringRef advice =
      query.numTokens
          ? "make it static (experts=N stands for a number of stacked experts)"
          : "say how many tokens there are, as in tokens=256";
  fail(op, "depends on a size of " + type + " that is not known; " + advice);
}

/// Tokens lead, as T or as batch × length; experts lead in stacked weights.
std::optional<int64_t> CostBuilder::getArgumentSize(BlockArgument argument,
                                                    unsigned dim) {
  if (argument.getOwner()->getParentOp() != function.getOperation())
    return std::nullopt;
  if (weights.isWeight(argument))
    return dim == 0 ? query.numExperts : std::nullopt;
  auto type = cast<RankedTensorType>(argument.getType());
  if (dim == 0)
    return query.numTokens;
  bool isBatched = dim == 1 && type.getRank() > 2 && type.isDynamicDim(0);
  return isBatched && query.numTokens ? std::optional<int64_t>(1)
                                      : std::nullopt;
}

double CostBuilder::getSize(Operation *op, Value tensor, unsigned dim) {
  std::optional<int64_t> size = sizes.getSize(tensor, dim);
  if (!size)
    failSize(op, tensor);
  return size.value_or(0);
}

/// Bytes of an element in memory: an i1 or an i4 takes a whole one.
static double getElementBytes(Type type) {
  Type element = getElementTypeOrSelf(type);
  if (!element.isIntOrFloat())
    return 8; // An index.
  return llvm::divideCeil(element.getIntOrFloatBitWidth(), 8);
}

double CostBuilder::getBytes(Operation *op, Value tensor,
                             SizeEvaluator &evaluator) {
  std::optional<double> count = evaluator.getNumElements(tensor);
  if (!count)
    failSize(op, tensor);
  return count.value_or(0) * getElementBytes(tensor.getType());
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

ExpertLoad CostBuilder::makeLoad(Operation *op, Value slots, Value offsets,
                                 Value capacity, Value tokensPerGroup) {
  int64_t numTokens = getSize(op, slots, 0), topK = getSize(op, slots, 1);
  int64_t numExperts = getSize(op, offsets, 0) - 1;
  if (hasFailed)
    return {};
  llvm::Expected<ExpertLoad> load =
      query.routing.distribute(numTokens, topK, numExperts);
  if (!load) {
    fail(op, "cannot be told: " + llvm::toString(load.takeError()));
    return {};
  }
  std::optional<int64_t> limit =
      capacity ? sizes.getValue(capacity) : std::nullopt;
  if (limit) {
    std::optional<int64_t> group =
        tokensPerGroup ? sizes.getValue(tokensPerGroup) : std::nullopt;
    int64_t groupSize = std::max<int64_t>(group.value_or(numTokens), 1);
    load->limit(double(*limit) * llvm::divideCeil(numTokens, groupSize));
  }
  if (!layer.numTokens)
    layer.numTokens = numTokens;
  if (query.numTokens && *query.numTokens != numTokens)
    fail(op, "is for " + Twine(numTokens) +
                 " tokens, as the layer says, but tokens=" +
                 Twine(*query.numTokens) + " was asked; leave that out");
  layer.routings.push_back({double(load->getNumExperts()),
                            load->getNumTouched(), load->getNumRows(),
                            load->getMaxRows()});
  return *load;
}

/// The load of the op that made `offsets` (or slots); where that is no op of
/// ours, all `rows` are spread over the experts.
const ExpertLoad &CostBuilder::getLoad(Operation *op, Value offsets,
                                       Value rows) {
  Operation *producer = WeightUses::getRoot(offsets).getDefiningOp();
  if (!isa_and_nonnull<DispatchOp, PlanOp, RouteOp>(producer))
    producer = op;
  auto [known, isNew] = loads.try_emplace(producer);
  if (!isNew)
    return known->second;
  ExpertLoad load;
  if (auto dispatch = dyn_cast<DispatchOp>(producer)) {
    load = makeLoad(op, dispatch.getSlotsInit(), dispatch.getOffsetsInit(),
                    dispatch.getCapacity(), dispatch.getTokensPerGroup());
  } else if (auto plan = dyn_cast<PlanOp>(producer)) {
    load = makeLoad(op, plan.getInits()[1], plan.getInits()[0],
                    plan.getCapacity(), plan.getTokensPerGroup());
  } else if (auto route = dyn_cast<RouteOp>(producer)) {
    load = makeLoad(op, route.getInits()[3], route.getInits()[2],
                    route.getCapacity(), route.getTokensPerGroup());
  } else {
    double numRows = rows ? getSize(op, rows, 0) : 0;
    double numExperts = isa<CombineOp>(op) ? 1 : getSize(op, offsets, 0) - 1;
    load = llvm::cantFail(
        RoutingModel().distribute(numRows, 1, std::max(numExperts, 0.0)));
  }
  return loads[producer] = std::move(load);
}

//===----------------------------------------------------------------------===//
// Ops of any dialect
//===----------------------------------------------------------------------===//

/// Each tensor once, however often it is used.
void CostBuilder::addReads(Operation *op, ValueRange operands, Cost &cost,
                           SizeEvaluator &evaluator) {
  llvm::SmallPtrSet<Value, 8> seen;
  for (Value operand : operands) {
    if (!isa<RankedTensorType>(operand.getType()) ||
        !seen.insert(operand).second)
      continue;
    // A weight is read in the type that it is stored in.
    bool isWeight = weights.isWeight(operand);
    Value stored = isWeight ? WeightUses::getStored(operand) : operand;
    (isWeight ? cost.weightBytes : cost.readBytes) +=
        getBytes(op, stored, evaluator);
  }
}

void CostBuilder::addWrites(Operation *op, ValueRange tensors, Cost &cost,
                            SizeEvaluator &evaluator) {
  for (Value tensor : tensors)
    if (isa<RankedTensorType>(tensor.getType()))
      cost.writtenBytes += getBytes(op, tensor, evaluator);
}

/// Of each M×… tensor, `numRows` rows.
void CostBuilder::addRowWrites(Operation *op, ValueRange rows, double numRows,
                               Cost &cost) {
  for (Value tensor : rows)
    if (double size = getSize(op, tensor, 0))
      cost.writtenBytes += getBytes(op, tensor) * numRows / size;
}

/// Reads its operands and writes its results, each once; multiplies if it is a
/// contraction. Destinations are not read: what is added to is in registers.
Cost CostBuilder::getPlainCost(Operation *op, SizeEvaluator &evaluator) {
  Cost cost;
  if (auto insert = dyn_cast<tensor::InsertSliceOp>(op)) {
    addReads(op, insert.getSource(), cost, evaluator);
    addWrites(op, insert.getSource(), cost, evaluator);
    return cost;
  }
  SmallVector<Value> operands(op->getOperands());
  if (auto destination = dyn_cast<DestinationStyleOpInterface>(op))
    operands = destination.getDpsInputs();
  addReads(op, operands, cost, evaluator);
  addWrites(op, op->getResults(), cost, evaluator);
  auto contraction = dyn_cast<linalg::LinalgOp>(op);
  if (!contraction || !linalg::isaContractionOpInterface(contraction))
    return cost;
  double count = 2;
  AffineMap loops = contraction.getShapesToLoopsMap();
  SmallVector<Value> tensors(op->getOperands());
  SmallVector<std::pair<Value, unsigned>> shapes;
  for (Value tensor : tensors)
    for (int64_t d = 0, e = cast<ShapedType>(tensor.getType()).getRank(); d < e;
         ++d)
      shapes.push_back({tensor, d});
  for (AffineExpr loop : loops.getResults()) {
    auto dim = dyn_cast<AffineDimExpr>(loop);
    std::optional<int64_t> size;
    if (dim)
      size = evaluator.getSize(shapes[dim.getPosition()].first,
                               shapes[dim.getPosition()].second);
    if (!size)
      failSize(op, op->getResult(0));
    count *= size.value_or(0);
  }
  cost.operations[size_t(classify(contraction))] += count;
  return cost;
}

//===----------------------------------------------------------------------===//
// Ops of the dialect
//===----------------------------------------------------------------------===//

Cost CostBuilder::getDispatchCost(DispatchOp op) {
  Cost cost;
  addReads(op, op.getDpsInputs(), cost, sizes);
  addWrites(op, {op.getOffsetsInit(), op.getSlotsInit()}, cost, sizes);
  addRowWrites(op, op.getRowInits(),
               getLoad(op, op.getResult(0), Value()).getNumRows(), cost);
  return cost;
}

Cost CostBuilder::getCombineCost(CombineOp op) {
  Cost cost;
  double numRows = getLoad(op, op.getSlots(), op.getRows()).getNumRows();
  if (double size = getSize(op, op.getRows(), 0))
    cost.readBytes += getBytes(op, op.getRows()) * numRows / size;
  SmallVector<Value> others = {op.getSlots(), op.getWeights()};
  if (op.getBase())
    others.push_back(op.getBase());
  addReads(op, others, cost, sizes);
  addWrites(op, op.getInits(), cost, sizes);
  return cost;
}

Cost CostBuilder::getRouteCost(RouteOp op) {
  Cost cost;
  addReads(op, op.getDpsInputs(), cost, sizes);
  addWrites(op, op.getInits(), cost, sizes);
  (void)getLoad(op, op.getResult(2), Value());
  double numProducts = getSize(op, op.getX(), 0) *
                       getSize(op, op.getRouter(), 0) *
                       getSize(op, op.getRouter(), 1);
  WorkClass type = classify(getElementTypeOrSelf(op.getX().getType()),
                            getElementTypeOrSelf(op.getRouter().getType()));
  cost.operations[size_t(type)] += 2 * numProducts;
  return cost;
}

/// An operand that `map` reads at e, m, t, j and n: the share that the rows and
/// the experts with rows need.
void CostBuilder::addMapped(Matmul op, Value operand, AffineMap map,
                            const ExpertLoad &load, Cost &cost) {
  double bytes = getBytes(op, operand);
  for (auto [dim, expr] : llvm::enumerate(map.getResults())) {
    double size = getSize(op, operand, dim);
    if (size == 0)
      continue;
    if (expr.isFunctionOfDim(Matmul::kRow))
      bytes *= std::min(load.getNumRows() / size, 1.0);
    else if (expr.isFunctionOfDim(Matmul::kExpert))
      bytes *= std::min(load.getNumTouched() / size, 1.0);
  }
  (weights.isWeight(operand) ? cost.weightBytes : cost.readBytes) += bytes;
}

/// The share of an operand, apart from rows and experts, that `map` reads at
/// `numColumns` columns of n.
double CostBuilder::getColumnShare(Matmul op, Value operand, AffineMap map,
                                   double numColumns) {
  double share = 1;
  for (auto [dim, expr] : llvm::enumerate(map.getResults()))
    if (expr.isFunctionOfDim(Matmul::kColumn))
      if (double size = getSize(op, operand, dim))
        share *= std::min(numColumns / size, 1.0);
  return share;
}

/// Of a weight each term reads N·K elements of an expert, of an extra each use
/// N columns. Halves of a stacked or interleaved operand add up, to no more
/// than there is.
void CostBuilder::addOperands(Matmul op, const ExpertLoad &load, Cost &cost) {
  double numColumns = getSize(op, op.getInits()[0], 1);
  llvm::MapVector<Value, double> shares; // Of what addMapped counts.
  llvm::DenseMap<Value, AffineMap> maps;
  auto use = [&](Value operand, AffineMap map, double share) {
    shares[operand] += share;
    maps[operand] = map;
  };
  for (const Matmul::Product &product : op.getProducts()) {
    for (const Matmul::Term &term : product) {
      double length = getSize(op, term.lhs, 1);
      Type lhs = getElementTypeOrSelf(term.lhs.getType());
      Type rhs = getElementTypeOrSelf(term.getWeight().getType());
      if (term.prologue)
        lhs = term.prologue->front().getTerminator()->getOperand(0).getType();
      if (term.decode)
        rhs = term.decode->front().getTerminator()->getOperand(0).getType();
      cost.operations[size_t(classify(lhs, rhs))] +=
          2 * load.getNumRows() * numColumns * length;
      use(term.lhs, term.lhsMap, 1);
      for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
        use(extra, map, 1);
      for (auto [stored, map] : llvm::zip(term.stored, term.storedMaps)) {
        double elements = 1;
        for (auto [dim, expr] : llvm::enumerate(map.getResults()))
          if (!expr.isFunctionOfDim(Matmul::kExpert))
            elements *= getSize(op, stored, dim);
        use(stored, map, elements ? numColumns * length / elements : 0);
      }
    }
  }
  auto extraMaps = op.getExtraMaps().getAsValueRange<AffineMapAttr>();
  for (auto [extra, map] : llvm::zip(op.getExtras(), extraMaps))
    use(extra, map, getColumnShare(op, extra, map, numColumns));
  for (auto [operand, share] : shares) {
    Cost all;
    addMapped(op, operand, maps[operand], load, all);
    cost.add(all, std::min(share, 1.0));
  }
}

Cost CostBuilder::getMatmulCost(Matmul op) {
  Value rows = op.getSource();
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product)
      if (!rows && !term.isGathered())
        rows = term.lhs;
  const ExpertLoad &load = getLoad(op, op.getOffsets(), rows);
  Cost cost;
  addOperands(op, load, cost);
  SmallVector<Value> others = {op.getOffsets()};
  for (Value value :
       {op.getSource(), op.getSlots(), op.getWeights(), op.getBase()})
    if (value)
      others.push_back(value);
  addReads(op, others, cost, sizes);
  if (op.isCombining())
    addWrites(op, op.getInits(), cost, sizes);
  else
    addRowWrites(op, op.getInits(), load.getNumRows(), cost);
  return cost;
}

//===----------------------------------------------------------------------===//
// moe.expert
//===----------------------------------------------------------------------===//

/// What the body costs on `numRows` rows, weights once.
Cost CostBuilder::getBodyCost(ExpertOp op, int64_t numRows,
                              double &intermediate) {
  SizeEvaluator evaluator = sizes.forRows(numRows);
  Cost cost;
  llvm::SmallPtrSet<Value, 8> read;
  for (Operation &inner : op.getBody().front().without_terminator()) {
    if (!weights.isCounted(&inner))
      continue;
    Cost one = getPlainCost(&inner, evaluator);
    one.weightBytes = 0;
    cost.add(one);
    for (Value operand : inner.getOperands()) {
      if (!isa<RankedTensorType>(operand.getType()) ||
          !weights.isWeight(operand))
        continue;
      // Slices of a weight are parts of it: counted once, whole.
      Value root = WeightUses::getRoot(operand);
      if (read.insert(root).second)
        cost.weightBytes += getBytes(&inner, root, evaluator);
    }
    addIntermediates(&inner, evaluator, intermediate);
  }
  return cost;
}

/// A row count that is no integer is an expectation: between those of the
/// integers around it. An expert without rows costs nothing.
Cost CostBuilder::getExpertCost(ExpertOp op) {
  Value rows = op.getRows().empty() ? Value() : op.getRows().front();
  const ExpertLoad &load = getLoad(op, op.getOffsets(), rows);
  llvm::DenseMap<int64_t, Cost> known;
  double intermediate = 0, most = 0;
  auto getCost = [&](int64_t numRows) -> Cost {
    if (numRows == 0)
      return {};
    auto [place, isNew] = known.try_emplace(numRows);
    if (isNew) {
      intermediate = 0;
      place->second = getBodyCost(op, numRows, intermediate);
      most = std::max(most, intermediate);
    }
    return place->second;
  };
  Cost cost;
  for (auto [numRows, touched] : llvm::zip(load.rows, load.touched)) {
    int64_t below = std::floor(numRows);
    double above = numRows - below;
    Cost one;
    one.add(getCost(below), 1 - above);
    if (above > 0)
      one.add(getCost(below + 1), above);
    one.weightBytes =
        getCost(std::max<int64_t>(std::ceil(numRows), 1)).weightBytes * touched;
    cost.add(one);
  }
  addReads(op, op.getOffsets(), cost, sizes);
  layer.intermediateBytes += most; // One expert at a time.
  return cost;
}

//===----------------------------------------------------------------------===//
// The function
//===----------------------------------------------------------------------===//

void CostBuilder::addIntermediates(Operation *op, SizeEvaluator &evaluator,
                                   double &bytes) {
  for (Value result : op->getResults())
    if (isa<RankedTensorType>(result.getType()) && !returned.contains(result))
      bytes += getBytes(op, result, evaluator);
}

void CostBuilder::addOp(Operation *op) {
  if (!weights.isCounted(op)) {
    layer.numUncounted += WeightUses::countHidden(op);
    return;
  }
  bool isOurs = isa<MoEDialect>(op->getDialect());
  if (isOurs && llvm::any_of(op->getOperandTypes(), llvm::IsaPred<MemRefType>))
    return fail(op, "is only told on tensors; run the report before "
                    "bufferization");
  LayerCost::Op entry;
  entry.name = op->getName().getStringRef().str();
  if (auto place = op->getLoc()->findInstanceOf<FileLineColLoc>())
    entry.line = place.getLine();
  entry.cost =
      TypeSwitch<Operation *, Cost>(op)
          .Case([&](DispatchOp op) { return getDispatchCost(op); })
          .Case([&](CombineOp op) { return getCombineCost(op); })
          .Case([&](RouteOp op) { return getRouteCost(op); })
          .Case([&](Matmul op) { return getMatmulCost(op); })
          .Case([&](ExpertOp op) { return getExpertCost(op); })
          .Default([&](Operation *op) { return getPlainCost(op, sizes); });
  addIntermediates(op, sizes, layer.intermediateBytes);
  layer.ops.push_back(std::move(entry));
  if (auto plan = dyn_cast<PlanOp>(op))
    (void)getLoad(op, plan.getResult(0), Value());
  if (auto expert = dyn_cast<ExpertOp>(op))
    for (Operation &inner : expert.getBody().front())
      layer.numUncounted += WeightUses::countHidden(&inner);
}

FailureOr<LayerCost> CostBuilder::run() {
  layer.function = function.getName().str();
  layer.routing = query.routing.getText().str();
  for (Block &block : function.getFunctionBody())
    for (Value operand : block.getTerminator()->getOperands())
      returned.insert(WeightUses::getRoot(operand));
  for (Block &block : function.getFunctionBody())
    for (Operation &op : block)
      if (!hasFailed)
        addOp(&op);
  if (hasFailed)
    return failure();
  return std::move(layer);
}

FailureOr<LayerCost> mlir::moe::computeCost(FunctionOpInterface function,
                                            const CostQuery &query) {
  return CostBuilder(function, query).run();
}
