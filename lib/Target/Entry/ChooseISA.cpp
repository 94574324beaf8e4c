//===- ChooseISA.cpp - Chooses a version of a layer at run time -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Target/ChooseISA.h"

#include "MachineFeatures.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/Parser/Parser.h"
#include "moe/Runtime/moe.h"

using namespace mlir;
using namespace mlir::moe;

/// What forces a version.
static constexpr StringLiteral kVariable("MOE_ISA");

namespace {

class ChooseISABuilder {
public:
  ChooseISABuilder(ModuleOp module, StringRef name, ArrayRef<ISA> versions)
      : module(module), name(name.str()), versions(versions),
        b(module.getLoc(), module.getContext()),
        ptr(LLVM::LLVMPointerType::get(b.getContext())), i32(b.getI32Type()) {
    b.setInsertionPointToEnd(module.getBody());
  }

  void build() {
    addMachineFeatures();
    buildChoose();
    buildCached();
  }

private:
  ModuleOp module;
  std::string name;
  ArrayRef<ISA> versions;
  ImplicitLocOpBuilder b;
  Type ptr, i32;

  Value constant(int64_t value) {
    return LLVM::ConstantOp::create(b, i32, b.getI32IntegerAttr(value));
  }
  Value compare(LLVM::ICmpPredicate predicate, Value x, Value y) {
    return LLVM::ICmpOp::create(b, predicate, x, y);
  }
  Value isZero(Value value) {
    return compare(LLVM::ICmpPredicate::eq, value, constant(0));
  }
  Value call(StringRef callee, Type result, ValueRange operands) {
    return LLVM::CallOp::create(b, result,
                                FlatSymbolRefAttr::get(b.getContext(), callee),
                                operands)
        .getResult();
  }
  Block *addBlock() {
    OpBuilder::InsertionGuard guard(b);
    Region *region = b.getInsertionBlock()->getParent();
    return b.createBlock(region, region->end());
  }
  /// Goes on in a new block if `condition` does not hold, in `then` if it does.
  void branchIf(Value condition, Block *then) {
    Block *next = addBlock();
    LLVM::CondBrOp::create(b, condition, then, next);
    b.setInsertionPointToStart(next);
  }
  void returnConstant(int64_t value) {
    LLVM::ReturnOp::create(b, constant(value));
  }

  void addMachineFeatures();
  void declare(StringRef function, Type result, ArrayRef<Type> arguments);
  LLVM::LLVMFuncOp startFunction(StringRef suffix, ArrayRef<Type> arguments);
  /// The address of a constant text that ends with 0.
  Value buildText(StringRef symbol, StringRef text);
  /// Returns version `i` if the machine can run it; goes on if not.
  void returnIfRuns(Value features, size_t i, Block *otherwise);
  void buildChoose();
  void buildByName(Value features, Value wanted);
  void buildByFeatures(Value features);
  void buildCached();
};

} // namespace

void ChooseISABuilder::addMachineFeatures() {
  OwningOpRef<ModuleOp> parsed = parseSourceString<ModuleOp>(
      kMachineFeaturesText, ParserConfig(b.getContext()));
  for (Operation &op :
       llvm::make_early_inc_range(parsed->getBody()->getOperations()))
    op.moveBefore(module.getBody(), module.getBody()->end());
}

void ChooseISABuilder::declare(StringRef function, Type result,
                               ArrayRef<Type> arguments) {
  if (module.lookupSymbol(function))
    return;
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(module.getBody());
  LLVM::LLVMFuncOp::create(b, function,
                           LLVM::LLVMFunctionType::get(result, arguments));
}

LLVM::LLVMFuncOp ChooseISABuilder::startFunction(StringRef suffix,
                                                 ArrayRef<Type> arguments) {
  auto function = LLVM::LLVMFuncOp::create(
      b, name + suffix.str(), LLVM::LLVMFunctionType::get(i32, arguments),
      LLVM::Linkage::Internal);
  b.setInsertionPointToStart(function.addEntryBlock(b));
  return function;
}

Value ChooseISABuilder::buildText(StringRef symbol, StringRef text) {
  std::string bytes = text.str() + '\0';
  LLVM::GlobalOp global;
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(module.getBody());
    auto type = LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size());
    global = LLVM::GlobalOp::create(b, type, /*isConstant=*/true,
                                    LLVM::Linkage::Internal, symbol,
                                    b.getStringAttr(bytes));
  }
  return LLVM::AddressOfOp::create(b, global);
}

void ChooseISABuilder::returnIfRuns(Value features, size_t i,
                                    Block *otherwise) {
  const ISA &isa = versions[i];
  Value needs = constant(isa.needs);
  Value isThere = compare(LLVM::ICmpPredicate::eq,
                          LLVM::AndOp::create(b, features, needs), needs);
  Block *runs = addBlock();
  LLVM::CondBrOp::create(b, isThere, runs, otherwise);
  b.setInsertionPointToStart(runs);
  if (isa.needs & kHasAMXBF16) {
    Value refusal = call(kRequestTilesName, b.getI64Type(), {});
    Value none =
        LLVM::ConstantOp::create(b, b.getI64Type(), b.getI64IntegerAttr(0));
    Block *granted = addBlock();
    LLVM::CondBrOp::create(b, compare(LLVM::ICmpPredicate::eq, refusal, none),
                           granted, otherwise);
    b.setInsertionPointToStart(granted);
  }
  returnConstant(i);
}

void ChooseISABuilder::buildByName(Value features, Value wanted) {
  declare("strcmp", i32, {ptr, ptr});
  Block *unsupported = addBlock();
  for (auto [i, isa] : llvm::enumerate(versions)) {
    Value text = buildText((name + ".isa_name." + isa.name).str(), isa.name);
    Block *found = addBlock();
    branchIf(isZero(call("strcmp", i32, {wanted, text})), found);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(found);
    returnIfRuns(features, i, unsupported);
  }
  returnConstant(-MOE_UNKNOWN_ISA);
  b.setInsertionPointToStart(unsupported);
  returnConstant(-MOE_UNSUPPORTED_CPU);
}

void ChooseISABuilder::buildByFeatures(Value features) {
  for (size_t i = 0; i < versions.size(); ++i) {
    Block *next = addBlock();
    returnIfRuns(features, i, next);
    b.setInsertionPointToStart(next);
  }
  returnConstant(-MOE_UNSUPPORTED_CPU);
}

/// NAME.choose_isa(features, name).
void ChooseISABuilder::buildChoose() {
  OpBuilder::InsertionGuard guard(b);
  LLVM::LLVMFuncOp function = startFunction(".choose_isa", {i32, ptr});
  function.setNoInline(true);
  Value features = function.getArgument(0), wanted = function.getArgument(1);
  Block *automatic = addBlock();
  branchIf(compare(LLVM::ICmpPredicate::eq, wanted,
                   LLVM::ZeroOp::create(b, ptr).getResult()),
           automatic);
  Value first = LLVM::LoadOp::create(b, b.getI8Type(), wanted);
  branchIf(isZero(LLVM::ZExtOp::create(b, i32, first)), automatic);
  buildByName(features, wanted);
  b.setInsertionPointToStart(automatic);
  buildByFeatures(features);
}

/// NAME.isa(). Threads that come first at the same time find the same.
void ChooseISABuilder::buildCached() {
  declare("getenv", ptr, {ptr});
  auto global = LLVM::GlobalOp::create(
      b, i32, /*isConstant=*/false, LLVM::Linkage::Internal, name + ".isa_kept",
      b.getI32IntegerAttr(0));
  OpBuilder::InsertionGuard guard(b);
  startFunction(".isa", {});
  Block *find = addBlock(), *leave = addBlock();
  Value kept = leave->addArgument(i32, b.getLoc());
  Value address = LLVM::AddressOfOp::create(b, global);
  constexpr unsigned alignment = 4;
  // 0 is not known yet, else 1 + the version, or 1 − the status.
  Value known = LLVM::LoadOp::create(
      b, i32, address, alignment, /*isVolatile=*/false, /*isNonTemporal=*/false,
      /*isInvariant=*/false, /*isInvariantGroup=*/false,
      LLVM::AtomicOrdering::monotonic);
  LLVM::CondBrOp::create(b, isZero(known), find, ValueRange(), leave,
                         ValueRange{known});

  b.setInsertionPointToStart(find);
  Value text = buildText(name + ".isa_variable", kVariable);
  Value features = call(kMachineFeaturesName, i32, {});
  Value wanted = call("getenv", ptr, {text});
  Value chosen = call(name + ".choose_isa", i32, {features, wanted});
  Value next = LLVM::AddOp::create(b, chosen, constant(1));
  LLVM::StoreOp::create(b, next, address, alignment, /*isVolatile=*/false,
                        /*isNonTemporal=*/false, /*isInvariantGroup=*/false,
                        LLVM::AtomicOrdering::monotonic);
  LLVM::BrOp::create(b, ValueRange{next}, leave);

  b.setInsertionPointToStart(leave);
  LLVM::ReturnOp::create(b,
                         LLVM::SubOp::create(b, kept, constant(1)).getResult());
}

void mlir::moe::addChooseISA(ModuleOp module, StringRef name,
                             ArrayRef<ISA> versions) {
  ChooseISABuilder(module, name, versions).build();
}
