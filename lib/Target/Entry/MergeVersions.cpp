//===- MergeVersions.cpp - One entry for several versions -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Puts the versions of a layer side by side. Each was lowered in a module of
/// its own, under the same names: a version's get its instruction set as a
/// suffix, but for sizes, which are the same for all, and for functions that
/// are only declared.
///
//===----------------------------------------------------------------------===//

#include "moe/Target/MergeVersions.h"

#include "EntryShapes.h"
#include "StatsEntry.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Target/ChooseISA.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class Merger {
public:
  Merger(ModuleOp module, ArrayRef<StringRef> names,
         MutableArrayRef<Version> versions)
      : module(module), names(names), versions(versions),
        b(module.getContext()) {}

  FailureOr<VersionTargets> merge();

private:
  bool isForGPUs() const { return !versions.front().isa; }
  /// What returns the number of the version to run.
  std::string getChooser() const {
    return (names.front() + (isForGPUs() ? ".image" : ".isa")).str();
  }
  func::FuncOp lookUp(ModuleOp where, const Twine &symbol) {
    return where.lookupSymbol<func::FuncOp>(symbol.str());
  }
  std::string suffixed(StringRef symbol, const Version &version) {
    return (symbol + "." + version.name).str();
  }
  bool isShared(Operation *symbol);
  void rename(Version &version, VersionTargets &targets);
  void moveIn(Version &version);
  /// Builds what runs a version of the entry `name`, and of its variant with
  /// statistics.
  void buildDispatchers(StringRef name);
  /// A function like `model`, of the first version, that calls the version that
  /// was chosen.
  func::FuncOp buildDispatcher(func::FuncOp model);
  func::FuncOp buildWorkspace(StringRef name);
  void declareImage();

  ModuleOp module;
  ArrayRef<StringRef> names;
  MutableArrayRef<Version> versions;
  OpBuilder b;
};

} // namespace

bool Merger::isShared(Operation *symbol) {
  auto function = dyn_cast<FunctionOpInterface>(symbol);
  if (!function)
    return false;
  StringRef symbolName = function.getName();
  return function.isExternal() || llvm::any_of(names, [&](StringRef name) {
           return symbolName == (name + ".shapes").str() ||
                  symbolName == (name + ".stats.shapes").str();
         });
}

void Merger::rename(Version &version, VersionTargets &targets) {
  for (Operation &op : *version.module->getBody()) {
    auto symbol = dyn_cast<SymbolOpInterface>(op);
    if (!symbol || isShared(symbol))
      continue;
    auto renamed =
        b.getStringAttr(suffixed(symbol.getNameAttr().getValue(), version));
    // Fails on ops with a symbol table of their own that is unknown: none here.
    (void)SymbolTable::replaceAllSymbolUses(symbol, renamed, *version.module);
    symbol.setName(renamed);
    symbol.setVisibility(SymbolTable::Visibility::Private);
    if (version.isa)
      targets.insert({renamed.getValue(), *version.isa});
  }
}

void Merger::moveIn(Version &version) {
  for (Operation &op :
       llvm::make_early_inc_range(version.module->getBody()->getOperations())) {
    auto symbol = dyn_cast<SymbolOpInterface>(op);
    if (symbol && module.lookupSymbol(symbol.getNameAttr()))
      continue; // Shared.
    op.moveBefore(module.getBody(), module.getBody()->end());
  }
}

func::FuncOp Merger::buildDispatcher(func::FuncOp model) {
  OpBuilder::InsertionGuard guard(b);
  Location loc = model.getLoc();
  b.setInsertionPointToEnd(module.getBody());
  auto function =
      func::FuncOp::create(b, loc, model.getName(), model.getFunctionType());
  function.setVisibility(model.getVisibility());
  for (unsigned i = 0, e = model.getNumArguments(); i < e; ++i)
    if (DictionaryAttr attrs = model.getArgAttrDict(i))
      function.setArgAttrs(i, attrs);
  b.setInsertionPointToStart(function.addEntryBlock());
  Value chosen =
      LLVM::CallOp::create(b, loc, TypeRange{b.getI32Type()},
                           FlatSymbolRefAttr::get(b.getContext(), getChooser()),
                           ValueRange())
          .getResult();
  chosen = arith::IndexCastOp::create(b, loc, b.getIndexType(), chosen);
  // The last version is the default: there is no other number.
  auto cases = llvm::to_vector(llvm::seq<int64_t>(0, versions.size() - 1));
  auto choice = scf::IndexSwitchOp::create(b, loc, TypeRange(), chosen, cases,
                                           cases.size());
  for (auto [i, version] : llvm::enumerate(versions)) {
    Region &region = i < cases.size() ? choice.getCaseRegions()[i]
                                      : choice.getDefaultRegion();
    b.createBlock(&region);
    func::CallOp::create(b, loc, suffixed(model.getName(), version),
                         TypeRange(), function.getArguments());
    scf::YieldOp::create(b, loc);
  }
  b.setInsertionPointAfter(choice);
  func::ReturnOp::create(b, loc);
  return function;
}

/// The most that a version needs, so that the machine need not be known.
func::FuncOp Merger::buildWorkspace(StringRef name) {
  OpBuilder::InsertionGuard guard(b);
  std::string symbol = (name + ".workspace").str();
  func::FuncOp function;
  Value most;
  for (Version &version : versions) {
    func::FuncOp own = lookUp(module, suffixed(symbol, version));
    if (!function) {
      b.setInsertionPointToEnd(module.getBody());
      function =
          func::FuncOp::create(b, own.getLoc(), symbol, own.getFunctionType());
      function.setPrivate();
      for (unsigned i = 0, e = own.getNumArguments(); i < e; ++i)
        if (DictionaryAttr attrs = own.getArgAttrDict(i))
          function.setArgAttrs(i, attrs);
      b.setInsertionPointToStart(function.addEntryBlock());
    }
    Block &body = own.getBody().front();
    IRMapping mapping;
    mapping.map(body.getArguments(), function.getArguments());
    for (Operation &op : body.without_terminator())
      b.clone(op, mapping);
    Value bytes = mapping.lookupOrDefault(body.getTerminator()->getOperand(0));
    most = most ? arith::MaxUIOp::create(b, own.getLoc(), most, bytes) : bytes;
    own.erase();
  }
  func::ReturnOp::create(b, function.getLoc(), most);
  return function;
}

/// moe-launches-to-calls defines it.
void Merger::declareImage() {
  b.setInsertionPointToStart(module.getBody());
  LLVM::LLVMFuncOp::create(b, module.getLoc(), getChooser(),
                           LLVM::LLVMFunctionType::get(b.getI32Type(), {}));
  module->setAttr(gpu::GPUDialect::getContainerModuleAttrName(),
                  b.getUnitAttr());
}

void Merger::buildDispatchers(StringRef name) {
  ModuleOp first = *versions.front().module;
  func::FuncOp entry = lookUp(first, name),
               stats = lookUp(first, name + ".stats");
  NamedAttrList attrs(entry->getAttrOfType<DictionaryAttr>(kEntryAttr));
  Attribute statsAttr = entry->getAttr(kStatsAttr);
  if (!isForGPUs())
    attrs.set("isa", FlatSymbolRefAttr::get(b.getContext(), getChooser()));
  func::FuncOp dispatcher = buildDispatcher(entry);
  if (stats)
    buildDispatcher(stats);
  dispatcher->setAttr(kEntryAttr, attrs.getDictionary(b.getContext()));
  if (statsAttr)
    dispatcher->setAttr(kStatsAttr, statsAttr);
}

/// Takes off what says that the functions are entries.
static void removeEntryAttrs(func::FuncOp function) {
  function->removeAttr(kEntryAttr);
  function->removeAttr(kStatsAttr);
  removeNames(function);
}

FailureOr<VersionTargets> Merger::merge() {
  // Replaced by the versions, all of it.
  for (Operation &op : llvm::make_early_inc_range(
           llvm::reverse(module.getBody()->getOperations())))
    op.erase();
  for (StringRef name : names)
    buildDispatchers(name);

  VersionTargets targets;
  SmallVector<ISA> isas;
  for (Version &version : versions) {
    for (StringRef name : names)
      for (StringRef suffix : {"", ".stats"})
        if (func::FuncOp function = lookUp(*version.module, name + suffix))
          removeEntryAttrs(function);
    rename(version, targets);
    moveIn(version);
    if (version.isa)
      isas.push_back(*version.isa);
  }
  PassManager pm(module.getContext(), func::FuncOp::getOperationName());
  pm.addPass(createCSEPass());
  pm.addPass(createCanonicalizerPass());
  for (StringRef name : names)
    if (failed(pm.run(buildWorkspace(name))))
      return failure();
  if (isForGPUs())
    declareImage();
  else
    addChooseISA(module, names.front(), isas);
  return targets;
}

FailureOr<VersionTargets>
mlir::moe::mergeVersions(ModuleOp module, ArrayRef<StringRef> names,
                         MutableArrayRef<Version> versions) {
  return Merger(module, names, versions).merge();
}

void mlir::moe::setTargets(ModuleOp module, const VersionTargets &targets) {
  auto *context = module.getContext();
  for (auto function : module.getOps<LLVM::LLVMFuncOp>()) {
    auto target = targets.find(function.getName());
    if (target == targets.end())
      continue;
    const ISA &isa = target->second;
    function.setTargetCpu(isa.cpu);
    if (!isa.tuneCPU.empty())
      function.setTuneCpu(isa.tuneCPU);
    if (!isa.features.empty())
      function.setTargetFeaturesAttr(
          LLVM::TargetFeaturesAttr::get(context, isa.features));
  }
}
