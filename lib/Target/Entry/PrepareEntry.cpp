//===- PrepareEntry.cpp - Results into the caller's memory ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/Passes.h"

#include "EntryShapes.h"
#include "StatsEntry.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPREPAREENTRY
#include "moe/Target/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Emits an error if `entry` cannot be prepared.
static LogicalResult checkPreparable(func::FuncOp entry,
                                     Operation *symbolTable) {
  auto fail = [&] {
    return entry.emitError() << "@" << entry.getName() << " ";
  };
  if (entry->hasAttr(kEntryAttr))
    return fail() << "is prepared as an entry already";
  if (!entry.getBody().hasOneBlock())
    return fail() << "has " << entry.getBody().getBlocks().size()
                  << " blocks; an entry function has one: write its control "
                     "flow with scf";
  if (!SymbolTable::symbolKnownUseEmpty(entry, symbolTable))
    return fail() << "is called by another function of the module; give that "
                     "function a callee of its own";
  for (StringRef suffix : {".shapes", ".sizes", ".body", ".check", ".run",
                           ".stats", ".run_stats", ".isa", ".program"}) {
    std::string name = (entry.getName() + suffix).str();
    if (SymbolTable::lookupSymbolIn(symbolTable, name))
      return fail() << "needs the symbol @" << name << ", which is taken";
  }
  return success();
}

/// Other functions have no callers but the entries, and nobody reads their
/// names.
static void makeOthersPrivate(ArrayRef<func::FuncOp> entries,
                              Operation *symbolTable) {
  for (auto func : symbolTable->getRegion(0).getOps<func::FuncOp>()) {
    if (llvm::is_contained(entries, func))
      continue;
    func.setPrivate();
    removeNames(func);
  }
}

/// Turns the results of `entry` to memref arguments that it fills.
static LogicalResult appendResults(func::FuncOp entry,
                                   const EntrySignature &signature) {
  OpBuilder builder(entry.getContext());
  for (unsigned i = 0, e = entry.getNumArguments(); i < e; ++i)
    entry.setArgAttr(i, bufferization::BufferizationDialect::kWritableAttrName,
                     builder.getBoolAttr(false));

  Operation *terminator = entry.getBody().front().getTerminator();
  builder.setInsertionPoint(terminator);
  for (auto [result, tensor] :
       llvm::zip_equal(signature.results, terminator->getOperands())) {
    auto type = cast<RankedTensorType>(tensor.getType());
    auto bufferType = MemRefType::get(type.getShape(), type.getElementType());
    unsigned position = entry.getNumArguments();
    DictionaryAttr attrs = builder.getDictionaryAttr(
        builder.getNamedAttr(kNameAttr, builder.getStringAttr(result.name)));
    if (failed(
            entry.insertArgument(position, bufferType, attrs, entry.getLoc())))
      return failure();
    bufferization::MaterializeInDestinationOp::create(
        builder, tensor.getLoc(), /*result=*/Type(), tensor,
        entry.getArgument(position), /*restrict=*/true, /*writable=*/true);
  }
  func::ReturnOp::create(builder, terminator->getLoc());
  terminator->erase();
  entry.setFunctionType(builder.getFunctionType(entry.getArgumentTypes(), {}));
  entry.removeResAttrsAttr();
  return success();
}

/// `moe.entry`, for moe-create-c-entry.
static DictionaryAttr makeEntryAttr(func::FuncOp shapes, size_t numResults,
                                    bool isCompanion) {
  Builder builder(shapes.getContext());
  SmallVector<NamedAttribute> attrs = {
      builder.getNamedAttr("results", builder.getI64IntegerAttr(numResults)),
      builder.getNamedAttr("shapes", SymbolRefAttr::get(shapes))};
  if (isCompanion)
    attrs.push_back(builder.getNamedAttr("slabs", builder.getUnitAttr()));
  return builder.getDictionaryAttr(attrs);
}

namespace {

struct PrepareEntry final : moe::impl::MoEPrepareEntryBase<PrepareEntry> {
  using MoEPrepareEntryBase::MoEPrepareEntryBase;

  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  void runOnOperation() override {
    if (failed(prepare()))
      signalPassFailure();
  }

private:
  LogicalResult prepare();
  /// The entry, and its companion if there is to be one.
  FailureOr<SmallVector<func::FuncOp>> findEntries();
  LogicalResult prepareCompanion(func::FuncOp companion);
  FailureOr<StatsVariant> addStatsVariant(func::FuncOp entry);
  /// Makes @NAME.shapes, which is returned, and turns results to arguments.
  FailureOr<func::FuncOp> fillResults(func::FuncOp func);
};

} // namespace

FailureOr<SmallVector<func::FuncOp>> PrepareEntry::findEntries() {
  SmallVector<func::FuncOp> entries;
  SmallVector<StringRef> names = {entryName};
  if (!companionName.empty())
    names.push_back(companionName);
  for (StringRef name : names) {
    FailureOr<func::FuncOp> found = findEntry(getOperation(), name);
    if (failed(found) || failed(checkPreparable(*found, getOperation())))
      return failure();
    entries.push_back(*found);
  }
  if (entries.front() == entries.back() && entries.size() > 1)
    return entries.front().emitError()
           << "@" << entryName << " cannot be its own companion";
  return entries;
}

/// An error unless each tensor of `companion` is the slabs of experts, one of a
/// known size behind the other.
static LogicalResult checkSlabs(func::FuncOp companion) {
  auto isSlabs = [](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor && tensor.getRank() > 0 && tensor.isDynamicDim(0) &&
           tensor.getNumDynamicDims() == 1;
  };
  for (Type type : llvm::concat<const Type>(companion.getArgumentTypes(),
                                            companion.getResultTypes()))
    if (!isSlabs(type))
      return companion.emitError()
             << "@" << companion.getName() << " takes or returns a " << type
             << "; a companion's tensors are of any number of experts ('?' "
                "first) and have no other unknown size";
  return success();
}

LogicalResult PrepareEntry::prepareCompanion(func::FuncOp companion) {
  if (failed(checkSlabs(companion)))
    return failure();
  companion.setPublic();
  unsigned numResults = companion.getNumResults();
  FailureOr<func::FuncOp> shapes = fillResults(companion);
  if (failed(shapes))
    return failure();
  companion->setAttr(kEntryAttr, makeEntryAttr(*shapes, numResults,
                                               /*isCompanion=*/true));
  return success();
}

LogicalResult PrepareEntry::prepare() {
  FailureOr<SmallVector<func::FuncOp>> entries = findEntries();
  if (failed(entries))
    return failure();
  func::FuncOp *entry = entries->begin();
  makeOthersPrivate(*entries, getOperation());
  if (entries->size() > 1 && failed(prepareCompanion(entries->back())))
    return failure();
  entry->setPublic();
  unsigned numResults = entry->getNumResults();
  FailureOr<StatsVariant> variant = addStatsVariant(*entry);
  if (failed(variant))
    return failure();
  FailureOr<func::FuncOp> shapes = fillResults(*entry);
  if (failed(shapes))
    return failure();
  (*entry)->setAttr(kEntryAttr, makeEntryAttr(*shapes, numResults,
                                              /*isCompanion=*/false));
  if (variant->function) {
    FailureOr<func::FuncOp> variantShapes = fillResults(variant->function);
    if (failed(variantShapes))
      return failure();
    (*entry)->setAttr(kStatsAttr, makeStatsAttr(*variant, *variantShapes));
    removeNames(variant->function);
  }
  return success();
}

/// The copy of `entry` that appends statistics; null if nobody asked.
FailureOr<StatsVariant> PrepareEntry::addStatsVariant(func::FuncOp entry) {
  StatsVariant variant;
  if (statistics.empty())
    return variant;
  SmallVector<RoutingStatistic> chosen;
  for (const std::string &name : statistics) {
    std::optional<RoutingStatistic> statistic = parseStatistic(name);
    if (!statistic)
      return entry.emitError()
             << "there is no statistic '" << name
             << "'; there are tokens, choices, contribution and ids";
    chosen.push_back(*statistic);
  }
  variant.function = entry.clone();
  variant.function.setName((entry.getName() + ".stats").str());
  variant.function.setPrivate();
  entry->getBlock()->getOperations().insertAfter(entry->getIterator(),
                                                 variant.function);
  variant.appended = appendStatistics(variant.function, chosen);
  if (!variant.appended.empty())
    return variant;
  return entry.emitError()
         << "there are no statistics of @" << entry.getName()
         << ": it has no moe.dispatch at its top level, or one that cannot be "
            "instrumented; --remarks-filter-missed=moe-instrument says why";
}

FailureOr<func::FuncOp> PrepareEntry::fillResults(func::FuncOp func) {
  FailureOr<EntrySignature> signature = readEntrySignature(func);
  if (failed(signature))
    return failure();
  auto simplify = [&](func::FuncOp func) {
    OpPassManager pm(func::FuncOp::getOperationName());
    // linalg ops say what their shapes are; arith ops on tensors do not.
    pm.addPass(createConvertElementwiseToLinalgPass());
    pm.addPass(memref::createResolveRankedShapeTypeResultDimsPass());
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
    return runPipeline(pm, func);
  };
  FailureOr<func::FuncOp> shapes =
      buildShapesFunction(func, *signature, simplify);
  if (failed(shapes) || failed(appendResults(func, *signature)))
    return failure();
  return *shapes;
}
