//===- ExpertStages.cpp - Where a body is cut -------------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ExpertStages.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Transforms/RegionUtils.h"

using namespace mlir;
using namespace mlir::moe;

/// Whether `op` is among the products of `root`; any product if null.
static bool hasProduct(const Element *root, Operation *op = nullptr) {
  bool found = false;
  walkElements(root, [&](const Element &element) {
    found |=
        element.kind == Element::Kind::Product && (!op || element.op == op);
  });
  return found;
}

//===----------------------------------------------------------------------===//
// Which values are stored
//===----------------------------------------------------------------------===//

/// Whether `value` is a contraction that a grouped matmul can have.
bool StageFinder::isProduct(Value value) {
  auto op = value.getDefiningOp<linalg::LinalgOp>();
  Obstacle unused;
  return op && matchContraction(op, unused) && tracer.trace(value);
}

/// The ops that read the elements of `value`, rather than its size.
static llvm::SetVector<Operation *> readersOf(Value value) {
  llvm::SetVector<Operation *> readers;
  for (Operation *user : value.getUsers())
    if (!isa<tensor::DimOp>(user))
      readers.insert(user);
  return readers;
}

/// Where to store what comes from `product`: after the elementwise work that
/// nothing else shares, before an extension.
Value StageFinder::findChainEnd(Value product) {
  Value end = product;
  while (true) {
    llvm::SetVector<Operation *> readers = readersOf(end);
    if (readers.size() != 1 || readers[0]->getNumResults() != 1 ||
        readers[0]->getBlock() != &expert.getBody().front())
      break;
    Value next = readers[0]->getResult(0);
    if (!isa<RankedTensorType>(next.getType()) ||
        cast<RankedTensorType>(next.getType()).getRank() != 2 ||
        tracer.isStored(next) || !tracer.isStorable(next))
      break;
    const Element *element = tracer.trace(next);
    if (!element || !hasProduct(element, product.getDefiningOp()))
      break;
    end = next;
  }
  while (auto extension = end.getDefiningOp<arith::ExtFOp>())
    end = extension.getIn();
  return end;
}

/// Ops that `value` is computed with, from row values. Products among them are
/// stored. Returns true if one was not before.
bool StageFinder::findSlice(Value value, Part &part) {
  bool changed = false;
  SmallVector<Value> worklist = {value};
  auto follow = [&](Value next) {
    if (tracer.isRowValue(next))
      part.reads.insert(next);
    else
      worklist.push_back(next);
  };
  if (isa<BlockArgument>(value))
    part.reads.insert(value);
  while (!worklist.empty()) {
    Value next = worklist.pop_back_val();
    Operation *op = next.getDefiningOp();
    if (!op || op->getBlock() != &expert.getBody().front())
      continue;
    if (next != value && isProduct(next)) {
      changed |= tracer.store(findChainEnd(next));
      continue;
    }
    if (!part.ops.insert(op))
      continue;
    auto dim = dyn_cast<tensor::DimOp>(op);
    if (dim && dim.getConstantIndex() == 0 &&
        tracer.hasAllRows(dim.getSource()))
      continue; // That of any row value.
    llvm::SetVector<Value> used;
    getUsedValuesDefinedAbove(op->getRegions(), used);
    used.insert_range(op->getOperands());
    for (Value operand : used)
      follow(operand);
  }
  return changed;
}

/// Fills in how `value` is computed. Returns true if that needs more values to
/// be stored.
bool StageFinder::findPart(Value value) {
  Part &part = parts[value];
  auto type = cast<RankedTensorType>(value.getType());
  const Element *element = tracer.trace(value);
  if (!element)
    part.obstacle = tracer.getObstacle();
  else if (type.getRank() == 2 && !type.isDynamicDim(1) && hasProduct(element))
    readElement(part, element);
  else
    part.obstacle = {value.getDefiningOp(),
                     "is elementwise work on rows that no matmul precedes", ""};
  if (!part.element)
    return findSlice(value, part);
  bool changed = false;
  for (Value read : part.reads)
    if (!tracer.isRowValue(read))
      changed |= tracer.store(read);
  return changed;
}

/// Makes `part` one of a grouped matmul that computes `element`.
void StageFinder::readElement(Part &part, const Element *element) {
  part = Part();
  part.element = element;
  walkElements(element, [&](const Element &leaf) {
    if (leaf.kind == Element::Kind::Stored && tracer.isRowValue(leaf.value))
      part.reads.insert(leaf.value);
    for (const ProductTerm &term : leaf.terms) {
      part.reads.insert(term.lhs);
      if (term.prologue)
        walkElements(term.prologue, [&](const Element &read) {
          if (tracer.isRowValue(read.value))
            part.reads.insert(read.value);
        });
    }
  });
}

/// One round over what is stored so far. Returns true if there is more to
/// store, which changes the other parts.
bool StageFinder::findParts() {
  parts.clear();
  levels.clear();
  llvm::SetVector<Value> values;
  for (Value yielded : expert.getYieldOp().getValues())
    values.insert(yielded);
  values.insert_range(tracer.getStored());
  bool changed = false;
  for (Value value : values)
    changed |= findPart(value);
  return changed;
}

//===----------------------------------------------------------------------===//
// Which values share a stage
//===----------------------------------------------------------------------===//

/// The number of stages that must run before `value` is there.
unsigned StageFinder::levelOf(Value value) {
  auto *part = parts.find(value);
  if (part == parts.end())
    return 0; // A row argument.
  if (auto known = levels.find(value); known != levels.end())
    return known->second;
  unsigned level = 1;
  for (Value read : part->second.reads)
    if (read != value)
      level = std::max(level, 1 + levelOf(read));
  levels[value] = level;
  return level;
}

static int64_t widthOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getDimSize(1);
}

/// Elementwise work on what one stage stores is done in that stage.
void StageFinder::joinStages() {
  SmallVector<std::pair<unsigned, unsigned>> order;
  for (auto [i, entry] : llvm::enumerate(parts))
    order.push_back({levelOf(entry.first), i});
  llvm::sort(order);
  for (auto [oldLevel, i] : order) {
    auto &[value, part] = *(parts.begin() + i);
    auto type = cast<RankedTensorType>(value.getType());
    if (part.element || type.getRank() != 2 || !tracer.trace(value))
      continue;
    unsigned level = levelOf(value) - 1;
    SmallVector<Value> through;
    for (Value read : part.reads)
      if (level > 0 && levelOf(read) == level)
        through.push_back(read);
    if (through.empty() || !llvm::all_of(through, [&](Value read) {
          return parts.find(read)->second.element &&
                 widthOf(read) == type.getDimSize(1);
        }))
      continue;
    const Element *element = tracer.traceThrough(value, through);
    if (!element || !hasProduct(element))
      continue;
    readElement(part, element);
    levels.clear();
  }
}

std::vector<Stage> StageFinder::groupParts() {
  std::vector<std::pair<unsigned, Stage>> stages;
  DenseMap<ProductKey, SmallVector<size_t, 1>> stagesOf;
  auto findStage = [&](Value value, const Part &part) -> size_t {
    unsigned level = levelOf(value);
    SmallVector<size_t> candidates;
    if (part.element)
      walkElements(part.element, [&](const Element &leaf) {
        if (leaf.kind == Element::Kind::Product)
          llvm::append_range(candidates, stagesOf[{leaf.op, leaf.column}]);
      });
    else
      llvm::append_range(candidates, llvm::seq(stages.size()));
    for (size_t i : candidates) {
      const Stage &stage = stages[i].second;
      if (stages[i].first == level &&
          stage.isGroupedMatmul() == static_cast<bool>(part.element) &&
          (!part.element || widthOf(stage.values[0]) == widthOf(value)))
        return i;
    }
    stages.emplace_back(level, Stage());
    return stages.size() - 1;
  };
  for (auto &[value, part] : parts) {
    size_t i = findStage(value, part);
    Stage &stage = stages[i].second;
    stage.values.push_back(value);
    stage.reads.insert_range(part.reads);
    if (!part.element) {
      stage.ops.insert_range(part.ops);
      stage.obstacle = part.obstacle;
      continue;
    }
    stage.elements.push_back(part.element);
    walkElements(part.element, [&](const Element &leaf) {
      if (leaf.kind == Element::Kind::Product)
        stagesOf[{leaf.op, leaf.column}].push_back(i);
    });
  }
  SmallVector<std::pair<unsigned, size_t>> order;
  for (auto [i, stage] : llvm::enumerate(stages))
    order.push_back({stage.first, i});
  llvm::sort(order);
  std::vector<Stage> ordered;
  for (auto [level, i] : order)
    ordered.push_back(std::move(stages[i].second));
  return ordered;
}

/// A product in two stages would be computed twice, so it is stored. Returns
/// true if one was not before.
bool StageFinder::storeRepeatedProducts(ArrayRef<Stage> stages) {
  DenseMap<ProductKey, size_t> stageOf;
  bool changed = false;
  for (auto [i, stage] : llvm::enumerate(stages))
    for (const Element *element : stage.elements)
      walkElements(element, [&, i = i](const Element &leaf) {
        if (leaf.kind != Element::Kind::Product)
          return;
        auto [known, isNew] = stageOf.try_emplace({leaf.op, leaf.column}, i);
        if (!isNew && known->second != i)
          changed |= tracer.store(findChainEnd(leaf.op->getResult(0)));
      });
  return changed;
}

/// What stands in the way of the first matmul, if there is one.
Obstacle StageFinder::explainWhole() {
  for (Operation &op : expert.getBody().front()) {
    auto linalgOp = dyn_cast<linalg::LinalgOp>(op);
    Obstacle why;
    if (!linalgOp || linalgOp->getNumResults() != 1)
      continue;
    if (!matchContraction(linalgOp, why)) {
      if (why.op)
        return why;
    } else if (!tracer.trace(linalgOp->getResult(0))) {
      return tracer.getObstacle();
    }
  }
  return {expert, "has no matmul of rows and weights in its body", ""};
}

std::vector<Stage> StageFinder::find() {
  if (expert.getRows().empty()) {
    obstacle = {expert, "has no rows", "pass the rows as operands"};
    return {};
  }
  for (unsigned i = 0; i < expert.getInits().size(); ++i)
    if (!expert.isRowInit(i)) {
      obstacle = {expert, "has a per-expert result, E×…",
                  "compute it in a moe.expert of its own"};
      return {};
    }
  while (true) {
    if (findParts())
      continue;
    joinStages();
    std::vector<Stage> stages = groupParts();
    if (storeRepeatedProducts(stages))
      continue;
    if (llvm::any_of(
            stages, [](const Stage &stage) { return stage.isGroupedMatmul(); }))
      return stages;
    obstacle = explainWhole();
    return {};
  }
}
