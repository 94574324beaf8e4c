//===- RunOnMoEFunctions.cpp - A pipeline for some functions of a module --===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Pass/PassRegistry.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Pipelines/Passes.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_RUNONMOEFUNCTIONS
#include "moe/Pipelines/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static bool holdsMoEOps(Operation *op) {
  return op
      ->walk([](Operation *inner) {
        return isa_and_nonnull<MoEDialect>(inner->getDialect())
                   ? WalkResult::interrupt()
                   : WalkResult::advance();
      })
      .wasInterrupted();
}

static bool isDeclaration(Operation *op) {
  // llvm.func does not say so through the symbol interface.
  if (auto function = dyn_cast<FunctionOpInterface>(op))
    return function.isExternal();
  auto symbol = dyn_cast<SymbolOpInterface>(op);
  return symbol && symbol.isDeclaration();
}

/// Calls `visit` with each name that `root` or anything in it refers to.
/// SymbolTable's own search gives up at ops that it does not know, as a host
/// has them.
static void forEachSymbolUse(Operation *root,
                             function_ref<void(StringAttr)> visit) {
  root->walk([&](Operation *op) {
    op->getAttrDictionary().walk(
        [&](SymbolRefAttr use) { visit(use.getRootReference()); });
  });
}

namespace {
/// What a pipeline for MoE functions concerns.
struct Concerned {
  /// Functions and globals with a definition, in their order.
  SmallVector<Operation *> definitions;
  /// Declarations that those use and that others may use as well.
  llvm::SetVector<Operation *> declarations;
};
} // namespace

/// Symbols directly inside `scope` that hold moe ops or are connected with such
/// a function by symbol uses, in either direction. Declarations connect nobody:
/// two functions that call expf have nothing to do with each other.
static Concerned findConcerned(Operation *scope) {
  Block &block = scope->getRegion(0).front();
  SymbolTable symbols(scope);
  llvm::EquivalenceClasses<Operation *> connected;
  llvm::MapVector<Operation *, SmallVector<Operation *>> declarationsOf;
  for (auto symbol : block.getOps<SymbolOpInterface>()) {
    if (isDeclaration(symbol))
      continue;
    connected.insert(symbol);
    forEachSymbolUse(symbol, [&](StringAttr name) {
      Operation *used = symbols.lookup(name);
      if (used && isDeclaration(used))
        declarationsOf[symbol].push_back(used);
      else if (used)
        connected.unionSets(symbol, used);
    });
  }
  llvm::SmallPtrSet<Operation *, 8> leaders;
  for (auto function : block.getOps<FunctionOpInterface>())
    if (connected.contains(function) && holdsMoEOps(function))
      leaders.insert(connected.getLeaderValue(function));
  Concerned concerned;
  for (Operation &op : block) {
    if (!connected.contains(&op) ||
        !leaders.contains(connected.getLeaderValue(&op)))
      continue;
    concerned.definitions.push_back(&op);
    concerned.declarations.insert_range(declarationsOf[&op]);
  }
  return concerned;
}

namespace {
struct RunOnMoEFunctions final
    : moe::impl::RunOnMoEFunctionsBase<RunOnMoEFunctions> {
  explicit RunOnMoEFunctions(OpPassManager modulePipeline)
      : pipeline(std::move(modulePipeline)) {
    // The option is what --dump-pass-pipeline and reproducers print.
    std::string text;
    llvm::raw_string_ostream os(text);
    pipeline.printAsTextualPipeline(os);
    pipelineText = text;
  }

  LogicalResult initializeOptions(
      StringRef options,
      function_ref<LogicalResult(const Twine &)> emitError) override {
    if (failed(RunOnMoEFunctionsBase::initializeOptions(options, emitError)))
      return failure();
    return parsePipeline(emitError);
  }

  void getDependentDialects(DialectRegistry &registry) const override {
    pipeline.getDependentDialects(registry);
  }

  void runOnOperation() override {
    Operation *scope = getOperation();
    if (!scope->hasTrait<OpTrait::SymbolTable>()) {
      scope->emitError("a lowering to LLVM adds functions, so it runs on an op "
                       "with a symbol table, such as a module, not on '")
          << scope->getName() << "'";
      return signalPassFailure();
    }
    if (failed(runOnScope(scope)))
      signalPassFailure();
  }

private:
  OpPassManager pipeline;

  LogicalResult
  parsePipeline(function_ref<LogicalResult(const Twine &)> emitError) {
    std::string problem;
    llvm::raw_string_ostream os(problem);
    FailureOr<OpPassManager> parsed = parsePassPipeline(pipelineText, os);
    if (failed(parsed))
      return emitError(Twine("'") + pipelineText.getValue() +
                       "' is no pipeline: " + StringRef(problem).trim());
    if (parsed->getOpAnchorName() != ModuleOp::getOperationName())
      return emitError("the pipeline runs on '" + parsed->getOpAnchorName() +
                       "', not on a module; write builtin.module(...)");
    pipeline = std::move(*parsed);
    return success();
  }

  /// Innermost scopes first: a module within a module has symbols of its own.
  LogicalResult runOnScope(Operation *scope) {
    Block &block = scope->getRegion(0).front();
    for (Operation &inner : llvm::make_early_inc_range(block))
      if (isa<ModuleOp>(inner) && failed(runOnScope(&inner)))
        return failure();
    Concerned concerned = findConcerned(scope);
    if (concerned.definitions.empty())
      return success();
    auto isolated = ModuleOp::create(scope->getLoc());
    block.push_back(isolated);
    for (Operation *definition : concerned.definitions)
      definition->moveBefore(isolated.getBody(), isolated.getBody()->end());
    for (Operation *declaration : concerned.declarations)
      isolated.push_back(declaration->clone());
    LogicalResult result = runPipeline(pipeline, isolated);
    return success(succeeded(moveBack(scope, isolated)) && succeeded(result));
  }

  /// Declarations (of functions called, or malloc, expf, … that the pipeline
  /// added) that are there already are not made twice. One that was lowered
  /// takes the place of the original; if others use that, there is no way,
  /// since a name is either a func.func or an llvm.func.
  static LogicalResult moveBack(Operation *scope, ModuleOp isolated) {
    isolated->remove();
    // Before anything is back in the scope: its uses are those of the others.
    LogicalResult result = mergeDeclarations(scope, isolated);
    SymbolTable symbols(scope);
    for (Operation &op :
         llvm::make_early_inc_range(isolated.getBody()->getOperations())) {
      op.remove();
      if (isa<SymbolOpInterface>(op))
        symbols.insert(&op);
      else
        scope->getRegion(0).front().push_back(&op);
    }
    isolated->erase();
    return result;
  }

  static LogicalResult mergeDeclarations(Operation *scope, ModuleOp isolated) {
    SymbolTable symbols(scope);
    llvm::DenseSet<StringAttr> usedByOthers;
    forEachSymbolUse(scope,
                     [&](StringAttr name) { usedByOthers.insert(name); });
    LogicalResult result = success();
    for (auto symbol : llvm::make_early_inc_range(
             isolated.getBody()->getOps<SymbolOpInterface>())) {
      Operation *twin = symbols.lookup(symbol.getNameAttr());
      if (!twin || !isDeclaration(symbol) || !isDeclaration(twin))
        continue;
      if (twin->getName() == symbol->getName()) {
        symbol->erase();
        continue;
      }
      if (usedByOthers.contains(symbol.getNameAttr()))
        result = twin->emitError("'")
                 << symbol.getName()
                 << "' is called from functions with moe ops, which became '"
                 << symbol->getName() << "', and used from others; lower those "
                 << "as well, or call it under two names";
      symbols.erase(twin);
    }
    return result;
  }
};
} // namespace

std::unique_ptr<Pass>
mlir::moe::createRunOnMoEFunctionsPass(OpPassManager pipeline) {
  return std::make_unique<RunOnMoEFunctions>(std::move(pipeline));
}
