//===- CreateCEntry.cpp - The C functions around an entry -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Builds, for an entry @layer with its @layer.shapes:
///
///   layer.check(arguments, sizes)   checks arguments, computes result sizes
///   layer.run(tensors, workspace, bytes)
///                                   check, results' and workspace's checks,
///                                   call of layer.body
///   layer, layer_packed             what C callers see; both call layer.run
///   layer_workspace, layer_workspace_packed
///                                   how much layer.run needs
///   layer_shapes                    what a JIT's caller sees; calls
///   layer.check
///   layer.run_expert(expert, tensors, workspace, bytes)
///   layer_expert, layer_expert_packed
///                                   where tensors are slabs of experts: the
///                                   same for one of them
///
/// The visible functions call internal ones only, so that a second artifact in
/// the process with functions of the same names changes nothing.
///
//===----------------------------------------------------------------------===//

#include "moe/Target/Passes.h"

#include "CEntryBuilder.h"
#include "CheckTensor.h"
#include "EntryShapes.h"
#include "StatsEntry.h"
#include "mlir/Parser/Parser.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOECREATECENTRY
#include "moe/Target/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Reads what moe-prepare-entry and bufferization left.
static FailureOr<BufferEntry> readEntry(func::FuncOp func,
                                        DictionaryAttr attr) {
  auto fail = [&] {
    return func.emitError()
           << "@" << func.getName() << " has " << kEntryAttr << ", but ";
  };
  auto results = attr.getAs<IntegerAttr>("results");
  auto shapes = attr.getAs<FlatSymbolRefAttr>("shapes");
  auto workspace = attr.getAs<FlatSymbolRefAttr>("workspace");
  BufferEntry entry;
  entry.body = func;
  entry.name = func.getName().str();
  entry.cName = mangleForC(entry.name);
  if (shapes)
    entry.shapes =
        SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(func, shapes);
  if (!results || !entry.shapes)
    return fail() << "not the results and shapes that moe-prepare-entry writes";
  if (workspace)
    entry.workspace =
        SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(func, workspace);
  entry.hasSlabs = attr.contains("slabs");
  if (auto isa = attr.getAs<FlatSymbolRefAttr>("isa"))
    entry.isa =
        SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(func, isa);
  if (bool(workspace) != bool(entry.workspace))
    return fail()
           << "not the workspace that moe-allocations-to-workspace makes";
  for (unsigned i = 0, e = entry.shapes.getNumArguments(); i < e; ++i) {
    auto name = entry.shapes.getArgAttrOfType<StringAttr>(i, kNameAttr);
    entry.sizeNames.push_back(name ? name.str() : std::to_string(i));
  }
  ArrayRef<Type> types = func.getArgumentTypes();
  if (auto program = attr.getAs<FlatSymbolRefAttr>("program")) {
    entry.program =
        SymbolTable::lookupNearestSymbolFrom<LLVM::GlobalOp>(func, program);
    if (!entry.program || types.empty())
      return fail() << "not the program that moe-launches-to-calls makes";
    types = types.drop_back();
  }
  for (Type type : types) {
    auto buffer = dyn_cast<MemRefType>(type);
    if (!buffer || !buffer.getLayout().isIdentity())
      return fail() << "takes a " << type
                    << "; bufferize it with identity layouts first";
    std::optional<ElementType> elementType =
        getElementType(buffer.getElementType());
    if (!elementType || !getCType(*elementType))
      return fail() << "the C interface has no type for " << type;
    entry.types.push_back(buffer);
  }
  if (workspace && !entry.types.empty())
    entry.types.pop_back();
  entry.numArguments = entry.types.size() - results.getInt();
  int64_t numReturned = entry.shapes.getNumResults() - 1;
  if (entry.numArguments < 0 || numReturned != entry.getNumResultSizes() ||
      func.getNumResults() != 0)
    return fail() << "its arguments or results are not those of the entry that "
                     "moe-prepare-entry prepared";
  return entry;
}

/// Adds @moe.check_tensor unless it is there.
static void addCheckTensor(Operation *symbolTable) {
  if (SymbolTable::lookupSymbolIn(symbolTable, kCheckTensorName))
    return;
  OwningOpRef<ModuleOp> parsed = parseSourceString<ModuleOp>(
      kCheckTensorText, ParserConfig(symbolTable->getContext()));
  Operation &func = parsed->getBody()->front();
  func.moveBefore(&symbolTable->getRegion(0).front(),
                  symbolTable->getRegion(0).front().begin());
}

namespace {

struct CreateCEntry final : moe::impl::MoECreateCEntryBase<CreateCEntry> {
  using MoECreateCEntryBase::MoECreateCEntryBase;

  bool canScheduleOn(RegisteredOperationName name) const override {
    return name.hasTrait<OpTrait::SymbolTable>();
  }

  void runOnOperation() override {
    auto wrap = [&](func::FuncOp func, DictionaryAttr attr) {
      return this->wrap(func, attr);
    };
    if (failed(forEachEntry(getOperation(), wrap)))
      signalPassFailure();
  }

private:
  LogicalResult wrap(func::FuncOp func, DictionaryAttr attr);
  LogicalResult buildStats(BufferEntry &entry, DictionaryAttr stats,
                           const LLVMTypeConverter &converter);
};

} // namespace

LogicalResult CreateCEntry::wrap(func::FuncOp func, DictionaryAttr attr) {
  FailureOr<BufferEntry> entry = readEntry(func, attr);
  if (failed(entry))
    return failure();
  func->removeAttr(kEntryAttr);
  auto stats = dyn_cast_or_null<DictionaryAttr>(func->removeAttr(kStatsAttr));
  func.setName(entry->name + ".body");
  func.setPrivate();
  removeNames(func);
  removeNames(entry->shapes);
  if (entry->workspace)
    removeNames(entry->workspace);
  SmallVector<StringRef> suffixes = {
      "", "_packed", "_workspace", "_workspace_packed", "_shapes", "_error"};
  if (entry->hasSlabs)
    suffixes.append({"_expert", "_expert_packed"});
  for (StringRef suffix : suffixes) {
    std::string symbol = entry->cName + suffix.str();
    if (SymbolTable::lookupSymbolIn(getOperation(), symbol))
      return func.emitError()
             << "the C interface of @" << entry->name << " needs the symbol @"
             << symbol << ", which another function of the module has";
  }
  addCheckTensor(getOperation());
  LLVMTypeConverter converter(&getContext());
  CEntryBuilder builder(*entry, converter);
  builder.buildInternal();
  if (stats && failed(buildStats(*entry, stats, converter)))
    return failure();
  builder.buildVisible(exportShapes);
  return success();
}

/// The variant of `entry` with statistics as an entry of its own.
static FailureOr<BufferEntry>
readVariant(BufferEntry &entry, DictionaryAttr stats, size_t numStatistics) {
  auto lookUp = [&](StringRef name) -> func::FuncOp {
    auto symbol = stats.getAs<FlatSymbolRefAttr>(name);
    return symbol ? SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
                        entry.body, symbol)
                  : func::FuncOp();
  };
  BufferEntry variant;
  variant.body = lookUp("function");
  variant.shapes = lookUp("shapes");
  if (!variant.body || !variant.shapes ||
      variant.body.getNumArguments() != entry.types.size() + numStatistics)
    return entry.body.emitError()
           << "@" << entry.name << " has " << kStatsAttr
           << ", but not the functions that moe-prepare-entry makes for it";
  variant.name = variant.body.getName().str();
  for (Type type : variant.body.getArgumentTypes())
    variant.types.push_back(cast<MemRefType>(type));
  variant.numArguments = entry.numArguments;
  variant.isa = entry.isa;
  return variant;
}

LogicalResult CreateCEntry::buildStats(BufferEntry &entry, DictionaryAttr stats,
                                       const LLVMTypeConverter &converter) {
  FailureOr<SmallVector<AppendedStatistic>> appended =
      readAppended(entry.body, stats);
  if (failed(appended))
    return failure();
  FailureOr<BufferEntry> variant = readVariant(entry, stats, appended->size());
  if (failed(variant))
    return failure();
  removeNames(variant->body);
  removeNames(variant->shapes);
  CEntryBuilder(*variant, converter).buildInternal();

  auto lookUp = [&](const Twine &name) {
    return SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(
        entry.body, StringAttr::get(&getContext(), name));
  };
  StatsEntry functions;
  functions.run = lookUp(entry.name + ".run");
  functions.variantCheck = lookUp(variant->name + ".check");
  functions.variantRun = lookUp(variant->name + ".run");
  functions.appended = *appended;
  functions.types = ArrayRef(variant->types).take_back(appended->size());
  functions.numTensors = entry.types.size();
  functions.numResultSizes = entry.getNumResultSizes();
  buildRunStats(functions, entry.name + ".run_stats");
  entry.callee = ".run_stats";
  return success();
}
