//===- CostReport.cpp - What layers cost, as a report -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/Analysis/AddressWidth.h"
#include "moe/Dialect/MoE/Analysis/Cost.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Support/OutputFile.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOECOSTREPORT
#include "moe/Dialect/MoE/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether one of our ops is in the function, not in a function within it.
static bool hasMoEOps(FunctionOpInterface function) {
  return function
      ->walk([](Operation *op) {
        return isa_and_nonnull<MoEDialect>(op->getDialect())
                   ? WalkResult::interrupt()
                   : WalkResult::advance();
      })
      .wasInterrupted();
}

static void write(ArrayRef<LayerCost> layers, bool asJSON,
                  llvm::raw_ostream &os) {
  if (asJSON) {
    llvm::json::Array array;
    for (const LayerCost &layer : layers)
      array.push_back(layer.toJSON());
    llvm::json::Value report =
        llvm::json::Object{{"format", 1}, {"functions", std::move(array)}};
    os << llvm::formatv("{0:2}\n", report);
    return;
  }
  llvm::interleave(
      layers, os, [&](const LayerCost &layer) { layer.print(os); }, "\n");
}

namespace {

struct CostReport final : moe::impl::MoECostReportBase<CostReport> {
  using MoECostReportBase::MoECostReportBase;

  void runOnOperation() override {
    markAllAnalysesPreserved();
    if (failed(report()))
      signalPassFailure();
  }

private:
  FailureOr<CostQuery> readQuery();
  LogicalResult report();
};

} // namespace

FailureOr<CostQuery> CostReport::readQuery() {
  Location loc = getOperation()->getLoc();
  CostQuery query;
  for (auto [name, given, wanted] :
       {std::tuple(StringRef("tokens"), tokens.getValue(), &query.numTokens),
        std::tuple(StringRef("experts"), experts.getValue(),
                   &query.numExperts)}) {
    if (given < -1 || given >= int64_t(1) << 31)
      return emitError(loc) << name << "=" << given << " is no number of "
                            << name << ": 0 to 2^31 - 1";
    if (given >= 0)
      *wanted = given;
  }
  if (format != "text" && format != "json")
    return emitError(loc) << "format=" << format.getValue()
                          << " is neither text nor json";
  llvm::Expected<RoutingModel> model = RoutingModel::parse(routing);
  if (!model)
    return emitError(loc) << "routing: " << llvm::toString(model.takeError());
  query.routing = std::move(*model);
  return query;
}

LogicalResult CostReport::report() {
  FailureOr<CostQuery> query = readQuery();
  if (failed(query))
    return failure();
  std::vector<LayerCost> layers;
  WalkResult result = getOperation()->walk([&](FunctionOpInterface function) {
    if (function.isExternal() || !hasMoEOps(function))
      return WalkResult::advance();
    FailureOr<LayerCost> cost = computeCost(function, *query);
    if (failed(cost))
      return WalkResult::interrupt();
    layers.push_back(std::move(*cost));
    remarkAddressWidths(function, query->numTokens, "moe-cost-report");
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return failure();
  if (output.empty()) {
    write(layers, format == "json", llvm::errs());
    return success();
  }
  llvm::Error error = writeFileAtomically(output, [&](llvm::raw_ostream &os) {
    write(layers, format == "json", os);
    return llvm::Error::success();
  });
  if (error)
    return emitError(getOperation()->getLoc())
           << llvm::toString(std::move(error));
  return success();
}
