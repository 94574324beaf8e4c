//===- Instrument.cpp - Statistics of routing as results --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Statistics are made at the end of the function, from values that the layer
// makes anyway, so nothing of the layer itself changes. Only counts and sums
// are made here; shares and entropies are for whoever reads them.
//
//===----------------------------------------------------------------------===//

#include "RoutingLayers.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Dialect/MoE/Transforms/Statistics.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEINSTRUMENT
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

StringRef mlir::moe::getName(RoutingStatistic statistic) {
  switch (statistic) {
  case RoutingStatistic::Tokens:
    return "tokens";
  case RoutingStatistic::Choices:
    return "choices";
  case RoutingStatistic::Contribution:
    return "contribution";
  case RoutingStatistic::Ids:
    return "ids";
  }
  llvm_unreachable("unknown statistic");
}

std::optional<RoutingStatistic> mlir::moe::parseStatistic(StringRef name) {
  for (RoutingStatistic statistic : kAllStatistics)
    if (getName(statistic) == name)
      return statistic;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// The statistics of one layer
//===----------------------------------------------------------------------===//

namespace {

class StatisticsBuilder : ElementBuilder {
public:
  StatisticsBuilder(OpBuilder &b, const RoutingLayer &layer)
      : ElementBuilder(layer.op->getLoc()), b(b), layer(layer) {
    zero = buildIndex(b, loc, 0);
    one = buildIndex(b, loc, 1);
    Value numOffsets = tensor::DimOp::create(b, loc, layer.offsets, zero);
    numExperts = arith::SubIOp::create(b, loc, numOffsets, one);
    numTokens = tensor::DimOp::create(b, loc, layer.ids, zero);
    topK = tensor::DimOp::create(b, loc, layer.ids, one);
  }

  /// Null for a contribution that cannot be had.
  Value build(RoutingStatistic statistic) {
    switch (statistic) {
    case RoutingStatistic::Tokens:
      return buildTokens();
    case RoutingStatistic::Choices:
      return buildChoices();
    case RoutingStatistic::Contribution: {
      CombineOp combine = findCombine(layer);
      return combine ? buildContribution(combine) : Value();
    }
    case RoutingStatistic::Ids:
      return layer.ids;
    }
    llvm_unreachable("unknown statistic");
  }

private:
  OpBuilder &b;
  const RoutingLayer &layer;
  Value zero, one, numExperts, numTokens, topK;

  Value toI64(OpBuilder &b, Value value) {
    if (value.getType().isIndex())
      return arith::IndexCastOp::create(b, loc, b.getI64Type(), value);
    return arith::ExtSIOp::create(b, loc, b.getI64Type(), value);
  }

  Value toF64(OpBuilder &b, Value value) {
    if (value.getType().isF64())
      return value;
    return arith::ExtFOp::create(b, loc, b.getF64Type(), value);
  }

  /// A value for each expert, `element(e)`.
  Value tabulateExperts(Type type,
                        function_ref<Value(OpBuilder &, Value)> element) {
    int64_t size = layer.getNumExperts();
    SmallVector<OpFoldResult> sizes = {
        ShapedType::isDynamic(size) ? OpFoldResult(numExperts)
                                    : OpFoldResult(b.getIndexAttr(size))};
    Value init = tensor::EmptyOp::create(b, loc, sizes, type);
    auto body = [&](OpBuilder &b, Location, ValueRange) {
      Value expert = linalg::IndexOp::create(b, loc, 0);
      linalg::YieldOp::create(b, loc, element(b, expert));
    };
    return linalg::GenericOp::create(b, loc, init.getType(), ValueRange(), init,
                                     b.getMultiDimIdentityMap(1),
                                     utils::IteratorType::parallel, body)
        .getResult(0);
  }

  Value buildTokens() {
    return tabulateExperts(b.getI64Type(), [&](OpBuilder &b, Value expert) {
      Value next = arith::AddIOp::create(b, loc, expert, one);
      Value begin = extract(b, layer.offsets, expert);
      Value end = extract(b, layer.offsets, next);
      return toI64(b, arith::SubIOp::create(b, loc, end, begin));
    });
  }

  /// Loops over the choices (t, j) of all tokens.
  Carried forEachChoice(
      ValueRange inits,
      function_ref<Carried(OpBuilder &, ValueRange choice, ValueRange carried)>
          body) {
    return buildFor(
        b, loc, zero, numTokens, inits,
        [&](OpBuilder &b, Location, Value t, ValueRange outer) -> Carried {
          return buildFor(b, loc, zero, topK, outer,
                          [&](OpBuilder &b, Location, Value j, ValueRange inner)
                              -> Carried { return body(b, {t, j}, inner); });
        });
  }

  Value buildChoices() {
    Type i64 = b.getI64Type();
    Value noChoice = arith::ConstantIntOp::create(b, loc, i64, 0);
    Value end = toI32(b, numExperts);
    Value nowhere = forEachChoice(
        noChoice,
        [&](OpBuilder &b, ValueRange choice, ValueRange count) -> Carried {
          // Unsigned: an id below 0 is large.
          Value isNowhere = compare(b, arith::CmpIPredicate::uge,
                                    extract(b, layer.ids, choice), end);
          Value add = arith::ExtUIOp::create(b, loc, i64, isNowhere);
          return {arith::AddIOp::create(b, loc, count[0], add)};
        })[0];
    Value first = extract(b, layer.offsets, zero);
    Value last = extract(b, layer.offsets, numExperts);
    Value routed = toI64(b, arith::SubIOp::create(b, loc, last, first));
    Value all = toI64(b, arith::MulIOp::create(b, loc, numTokens, topK));
    Value named = arith::SubIOp::create(b, loc, all, nowhere);
    Value dropped = arith::SubIOp::create(b, loc, named, routed);
    return tensor::FromElementsOp::create(b, loc,
                                          ValueRange{routed, dropped, nowhere});
  }

  /// Σ row[h]², in f64: squares of bf16 and f32 do not overflow there.
  Value buildSquaredNorm(OpBuilder &b, Value rows, Value row) {
    Value width = tensor::DimOp::create(b, loc, rows, one);
    return buildFor(
        b, loc, zero, width, buildFloat(b, loc, b.getF64Type(), 0.0),
        [&](OpBuilder &b, Location, Value h, ValueRange sum) -> Carried {
          Value x = toF64(b, extract(b, rows, {row, h}));
          Value square = arith::MulFOp::create(b, loc, x, x);
          return {arith::AddFOp::create(b, loc, sum[0], square)};
        })[0];
  }

  Value buildContribution(CombineOp combine) {
    Type f64 = b.getF64Type();
    Value noSum = tabulateExperts(
        f64, [&](OpBuilder &b, Value) { return buildFloat(b, loc, f64, 0.0); });
    auto addRow = [&](OpBuilder &b, ValueRange choice, Value slot, Value sums) {
      Value expert = toIndex(b, extract(b, layer.ids, choice));
      Value weight = toF64(b, extract(b, combine.getWeights(), choice));
      Value norm = buildSquaredNorm(b, combine.getRows(), toIndex(b, slot));
      Value squared = arith::MulFOp::create(b, loc, weight, weight);
      Value share = arith::MulFOp::create(b, loc, squared, norm);
      Value sum = extract(b, sums, expert);
      Value next = arith::AddFOp::create(b, loc, sum, share);
      return insert(b, next, sums, expert);
    };
    Value sums = forEachChoice(
        noSum,
        [&](OpBuilder &b, ValueRange choice, ValueRange carried) -> Carried {
          Value slot = extract(b, layer.slots, choice);
          Value hasRow =
              compare(b, arith::CmpIPredicate::sge, slot, buildI32(b, loc, 0));
          return buildIf(
              b, loc, hasRow,
              [&](OpBuilder &b, Location) -> Carried {
                return {addRow(b, choice, slot, carried[0])};
              },
              [&](OpBuilder &, Location) -> Carried { return carried; });
        })[0];
    return tabulateExperts(f64, [&](OpBuilder &b, Value expert) {
      return math::SqrtOp::create(b, loc, extract(b, sums, expert));
    });
  }
};

} // namespace

//===----------------------------------------------------------------------===//
// The results of a function
//===----------------------------------------------------------------------===//

/// Appends `value` to what `func` returns.
static void appendResult(func::FuncOp func, Value value, StringRef name) {
  Builder builder(func.getContext());
  NamedAttribute attr =
      builder.getNamedAttr(kNameAttr, builder.getStringAttr(name));
  (void)func.insertResult(func.getNumResults(), value.getType(),
                          builder.getDictionaryAttr(attr));
  Operation *end = func.getBody().front().getTerminator();
  end->insertOperands(end->getNumOperands(), value);
}

SmallVector<AppendedStatistic>
mlir::moe::appendStatistics(func::FuncOp func,
                            ArrayRef<RoutingStatistic> statistics) {
  SmallVector<AppendedStatistic> appended;
  if (statistics.empty())
    return appended;
  SmallVector<RoutingLayer> layers = findLayers(func, kInstrumentRemark);
  for (auto [i, layer] : llvm::enumerate(layers)) {
    OpBuilder b(func.getBody().front().getTerminator());
    StatisticsBuilder builder(b, layer);
    for (RoutingStatistic statistic : kAllStatistics) {
      if (!llvm::is_contained(statistics, statistic))
        continue;
      Value value = builder.build(statistic);
      if (!value)
        continue;
      std::string name = ("stats" + Twine(i) + "." + getName(statistic)).str();
      appendResult(func, value, name);
      appended.push_back({static_cast<unsigned>(i), statistic});
    }
  }
  return appended;
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

namespace {
struct InstrumentPass final : moe::impl::MoEInstrumentBase<InstrumentPass> {
  using MoEInstrumentBase::MoEInstrumentBase;

  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  LogicalResult initialize(MLIRContext *context) override {
    for (const std::string &name : statisticNames) {
      std::optional<RoutingStatistic> statistic = parseStatistic(name);
      if (!statistic)
        return emitError(UnknownLoc::get(context))
               << "moe-instrument has no statistic '" << name
               << "'; there are tokens, choices, contribution and ids";
      statistics.push_back(*statistic);
    }
    return success();
  }

  void runOnOperation() override {
    auto functions = getOperation()->getRegion(0).getOps<func::FuncOp>();
    for (func::FuncOp func : functions)
      numAppended += appendStatistics(func, statistics).size();
  }

  SmallVector<RoutingStatistic> statistics;
};
} // namespace
