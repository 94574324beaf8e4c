//===- ExpertToGroupedMatmul.cpp - Bodies as grouped matmuls ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ExpertStages.h"
#include "FusionRemarks.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEEXPERTTOGROUPEDMATMUL
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The operands of a grouped matmul while they are found.
struct IndexedOperands {
  SmallVector<Value> values;
  SmallVector<Attribute> maps;

  /// The position of `value` at `index`, which is appended if it is new.
  unsigned find(Value value, const IndexExprs &index) {
    auto map = AffineMapAttr::get(AffineMap::get(GroupedMatmulOp::kNumDims, 0,
                                                 index, value.getContext()));
    for (unsigned i = 0; i < values.size(); ++i)
      if (values[i] == value && maps[i] == map)
        return i;
    append(value, index);
    return values.size() - 1;
  }
  void append(Value value, const IndexExprs &index) {
    values.push_back(value);
    maps.push_back(AffineMapAttr::get(AffineMap::get(
        GroupedMatmulOp::kNumDims, 0, index, value.getContext())));
  }
};

class StagesBuilder {
public:
  StagesBuilder(RewriterBase &rewriter, ExpertOp expert,
                const BodyTracer &tracer)
      : b(rewriter), loc(expert.getLoc()), expert(expert), tracer(tracer),
        results(expert.getNumResults()) {
    for (auto [argument, value] :
         llvm::zip(expert.getRowArgs(), expert.getRows()))
      rows[argument] = value;
  }

  SmallVector<Value> build(ArrayRef<Stage> stages) {
    for (const Stage &stage : stages) {
      SmallVector<Value> values, inits;
      SmallVector<unsigned> stored;
      for (auto [i, value] : llvm::enumerate(stage.values))
        for (Value init : initsOf(value)) {
          inits.push_back(init);
          stored.push_back(i);
        }
      Operation *op = stage.isGroupedMatmul()
                          ? buildGroupedMatmul(stage, stored, inits)
                          : buildExpert(stage, stored, inits);
      keepResults(stage, stored, op);
    }
    return results;
  }

private:
  RewriterBase &b;
  Location loc;
  ExpertOp expert;
  const BodyTracer &tracer;
  /// M×… for each row value of the body.
  DenseMap<Value, Value> rows;
  SmallVector<Value> results;

  /// The destinations of `value`: those of the results that it is yielded as,
  /// or a new one.
  SmallVector<Value> initsOf(Value value) {
    SmallVector<Value> inits;
    for (auto [yielded, init] :
         llvm::zip(expert.getYieldOp().getValues(), expert.getInits()))
      if (yielded == value)
        inits.push_back(init);
    if (!inits.empty())
      return inits;
    auto type = cast<RankedTensorType>(value.getType());
    SmallVector<OpFoldResult> sizes = {
        tensor::getMixedSize(b, loc, expert.getInits()[0], 0)};
    for (int64_t size : type.getShape().drop_front())
      sizes.push_back(b.getIndexAttr(size));
    return {tensor::EmptyOp::create(b, loc, sizes, type.getElementType())};
  }

  /// Results of `op`, which holds stage.values[stored[i]] as result i.
  void keepResults(const Stage &stage, ArrayRef<unsigned> stored,
                   Operation *op) {
    for (auto [i, value] : llvm::enumerate(stage.values)) {
      unsigned next = llvm::find(stored, i) - stored.begin();
      // A row argument that is yielded is still read from its own rows.
      rows.try_emplace(value, op->getResult(next));
      for (auto [n, yielded] : llvm::enumerate(expert.getYieldOp().getValues()))
        if (yielded == value)
          results[n] = op->getResult(next++);
    }
  }

  /// `value` of the body as an operand outside; a per-expert one gets e.
  Value outside(Value value, IndexExprs &index) {
    if (Value row = rows.lookup(value))
      return row;
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument || argument.getOwner() != &expert.getBody().front())
      return value;
    index.insert(index.begin(), tracer.dim(GroupedMatmulOp::kExpert));
    return expert
        .getParams()[argument.getArgNumber() - 1 - expert.getRows().size()];
  }

  //===--- Grouped matmuls
  //-------------------------------------------------===//

  /// A scalar region while its operands are found: the values of its arguments
  /// are those of the products, then those of the operands.
  struct ScalarRegion {
    IndexedOperands operands;
    SmallVector<const Element *> products;
    /// Position among the products or operands.
    DenseMap<const Element *, unsigned> position;
    DenseMap<const Element *, Value> scalars;
  };

  void findOperands(ArrayRef<const Element *> roots, ScalarRegion &region) {
    auto visit = [&](const Element &element) {
      if (element.kind == Element::Kind::Stored) {
        IndexExprs index = element.index;
        Value value = outside(element.value, index);
        region.position[&element] = region.operands.find(value, index);
      } else if (element.kind == Element::Kind::Product) {
        auto *known = llvm::find_if(region.products, [&](const Element *other) {
          return other->op == element.op && other->column == element.column;
        });
        region.position[&element] = known - region.products.begin();
        if (known == region.products.end())
          region.products.push_back(&element);
      }
    };
    for (const Element *root : roots)
      walkElements(root, visit);
  }

  /// The factors of products while they are listed.
  struct Factors {
    IndexedOperands operands;
    SmallVector<int32_t> termSizes, lhsSizes, productSizes;
    /// Of each term; what has no element has no prologue.
    SmallVector<std::pair<const Element *, ScalarRegion>> prologues;
  };

  void appendTerm(const ProductTerm &term, Factors &factors) {
    IndexedOperands &operands = factors.operands;
    size_t before = operands.values.size();
    auto &[element, prologue] = factors.prologues.emplace_back();
    element = term.prologue;
    // The rows come first.
    prologue.operands.append(
        rows.at(term.lhs),
        {tracer.dim(GroupedMatmulOp::kRow), tracer.dim(GroupedMatmulOp::kSum)});
    if (element)
      findOperands(element, prologue);
    llvm::append_range(operands.values, prologue.operands.values);
    llvm::append_range(operands.maps, prologue.operands.maps);
    factors.lhsSizes.push_back(operands.values.size() - before);
    IndexExprs index = term.weightIndex;
    Value weight = outside(term.weight, index);
    operands.append(weight, index);
    factors.termSizes.push_back(operands.values.size() - before);
  }

  Operation *buildGroupedMatmul(const Stage &stage, ArrayRef<unsigned> stored,
                                ValueRange inits) {
    ScalarRegion epilogue;
    findOperands(stage.elements, epilogue);
    Factors factors;
    for (const Element *product : epilogue.products) {
      factors.productSizes.push_back(product->terms.size());
      for (const ProductTerm &term : product->terms)
        appendTerm(term, factors);
    }
    auto op = GroupedMatmulOp::create(
        b, loc, TypeRange(inits), expert.getOffsets(), /*source=*/Value(),
        factors.operands.values, epilogue.operands.values, /*slots=*/Value(),
        /*weights=*/Value(), /*base=*/Value(), inits, /*top_k=*/IntegerAttr(),
        b.getArrayAttr(factors.operands.maps), factors.termSizes,
        factors.lhsSizes, factors.productSizes,
        b.getArrayAttr(epilogue.operands.maps), 2 * factors.termSizes.size());
    SmallVector<const Element *> yielded;
    for (unsigned i : stored)
      yielded.push_back(stage.elements[i]);
    buildRegion(op.getEpilogue(), yielded, epilogue);
    for (auto [i, entry] : llvm::enumerate(factors.prologues))
      if (entry.first)
        buildRegion(op.getFactorRegions()[2 * i], entry.first, entry.second);
    return op;
  }

  /// Writes what computes `yielded` into an empty region.
  void buildRegion(Region &region, ArrayRef<const Element *> yielded,
                   ScalarRegion &found) {
    OpBuilder::InsertionGuard guard(b);
    SmallVector<Type> types(found.products.size(), b.getF32Type());
    for (Value operand : found.operands.values)
      types.push_back(getElementTypeOrSelf(operand.getType()));
    Block *block = b.createBlock(&region, {}, types,
                                 SmallVector<Location>(types.size(), loc));
    auto visit = [&](const Element &element) {
      if (!found.scalars.contains(&element))
        found.scalars[&element] = buildScalar(element, *block, found);
    };
    SmallVector<Value> values;
    for (const Element *root : yielded) {
      walkElements(root, visit);
      values.push_back(found.scalars[root]);
    }
    YieldOp::create(b, loc, values);
  }

  Value buildScalar(const Element &element, Block &block, ScalarRegion &found) {
    switch (element.kind) {
    case Element::Kind::Constant:
      return arith::ConstantOp::create(b, loc, element.constant);
    case Element::Kind::Captured:
      return element.value;
    case Element::Kind::Product:
      return block.getArgument(found.position[&element]);
    case Element::Kind::Stored:
      return block.getArgument(found.products.size() +
                               found.position[&element]);
    case Element::Kind::Operation:
      break;
    }
    SmallVector<Value> operands;
    for (const Element *operand : element.operands)
      operands.push_back(found.scalars[operand]);
    if (!element.op)
      return arith::AddFOp::create(b, loc, operands[0], operands[1]);
    OperationState state(element.op->getLoc(), element.op->getName());
    state.addOperands(operands);
    state.addAttributes(element.op->getAttrDictionary().getValue());
    for (Type type : element.op->getResultTypes())
      state.addTypes(getElementTypeOrSelf(type));
    return b.create(state)->getResult(element.result);
  }

  //===--- What stays a moe.expert
  //-----------------------------------------===//

  Operation *buildExpert(const Stage &stage, ArrayRef<unsigned> stored,
                         ValueRange inits) {
    SmallVector<Value> bodyRows(stage.reads.getArrayRef());
    if (bodyRows.empty()) // It may still ask for the number of rows.
      bodyRows.push_back(expert.getRowArgs()[0]);
    SmallVector<Value> bodyParams = paramsOf(stage);
    SmallVector<Value> rowOperands, paramOperands;
    for (Value row : bodyRows)
      rowOperands.push_back(rows.at(row));
    IndexExprs unused;
    for (Value param : bodyParams)
      paramOperands.push_back(outside(param, unused));
    return ExpertOp::create(
        b, loc, expert.getOffsets(), rowOperands, paramOperands, inits,
        [&](OpBuilder &nested, Location, Value index, ValueRange rowArgs,
            ValueRange paramArgs) -> SmallVector<Value> {
          IRMapping mapping;
          mapping.map(expert.getExpertArg(), index);
          mapArguments(nested, mapping, bodyRows, rowArgs);
          mapArguments(nested, mapping, bodyParams, paramArgs);
          cloneOps(nested, stage, rowArgs[0], mapping);
          SmallVector<Value> yielded;
          for (unsigned i : stored)
            yielded.push_back(mapping.lookup(stage.values[i]));
          return yielded;
        });
  }

  /// The per-expert arguments that the ops of `stage` use.
  SmallVector<Value> paramsOf(const Stage &stage) {
    SmallVector<Value> params;
    for (Value param : expert.getParamArgs())
      if (llvm::any_of(param.getUsers(), [&](Operation *user) {
            return stage.ops.contains(
                expert.getBody().findAncestorOpInRegion(*user));
          }))
        params.push_back(param);
    return params;
  }

  /// Arguments may know other sizes than what they stand for.
  void mapArguments(OpBuilder &nested, IRMapping &mapping,
                    ArrayRef<Value> values, ValueRange arguments) {
    for (auto [value, argument] : llvm::zip(values, arguments)) {
      Value mapped = argument;
      if (value.getType() != argument.getType())
        mapped = tensor::CastOp::create(nested, loc, value.getType(), argument);
      mapping.map(value, mapped);
    }
  }

  void cloneOps(OpBuilder &nested, const Stage &stage, Value anyRows,
                IRMapping &mapping) {
    for (Operation &op : expert.getBody().front().without_terminator()) {
      if (!stage.ops.contains(&op))
        continue;
      auto dim = dyn_cast<tensor::DimOp>(op);
      if (dim && dim.getConstantIndex() == 0 &&
          tracer.hasAllRows(dim.getSource()))
        mapping.map(dim.getResult(),
                    tensor::DimOp::create(nested, loc, anyRows, 0).getResult());
      else
        nested.clone(op, mapping);
    }
  }
};

} // namespace

/// The remark that `expert`, or a part of it, stays as it is.
static void remarkObstacle(ExpertOp expert, StringRef what,
                           const Obstacle &obstacle) {
  Operation *op = obstacle.op ? obstacle.op : expert;
  std::string reason =
      ("'" + op->getName().getStringRef() + "' " + obstacle.reason).str();
  remarkMissed(kExpertRemark, expert, op->getLoc(), what, reason,
               obstacle.advice);
}

LogicalResult mlir::moe::rewriteExpertAsGroupedMatmuls(RewriterBase &rewriter,
                                                       ExpertOp expert) {
  StageFinder finder(expert);
  std::vector<Stage> stages = finder.find();
  if (stages.empty()) {
    remarkObstacle(expert, "stays a moe.expert", finder.getObstacle());
    return rewriter.notifyMatchFailure(expert, finder.getObstacle().reason);
  }
  for (const Stage &stage : stages)
    if (!stage.isGroupedMatmul())
      remarkObstacle(expert, "keeps a part as a moe.expert", stage.obstacle);
  rewriter.setInsertionPoint(expert);
  StagesBuilder builder(rewriter, expert, finder.getTracer());
  rewriter.replaceOp(expert, builder.build(stages));
  return success();
}

namespace {
struct ExpertToGroupedMatmulPass
    : moe::impl::MoEExpertToGroupedMatmulBase<ExpertToGroupedMatmulPass> {
  void runOnOperation() override {
    SmallVector<ExpertOp> experts;
    getOperation()->walk([&](ExpertOp expert) { experts.push_back(expert); });
    IRRewriter rewriter(&getContext());
    for (ExpertOp expert : experts)
      ++(succeeded(rewriteExpertAsGroupedMatmuls(rewriter, expert))
             ? numRewritten
             : numKept);
  }
};
} // namespace
