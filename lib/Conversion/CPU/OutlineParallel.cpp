//===- OutlineParallel.cpp - Parallel loops as calls of the run time ------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Transforms/RegionUtils.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEOUTLINEPARALLEL
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

static constexpr StringLiteral kParallelFor = "moe_rt_parallel_for";

/// void moe_rt_parallel_for(int64_t, void (*)(void *, int64_t), void *), which
/// a host may or may not have.
static void declareParallelFor(ModuleOp module) {
  if (module.lookupSymbol(kParallelFor))
    return;
  OpBuilder b = OpBuilder::atBlockBegin(module.getBody());
  Type pointer = LLVM::LLVMPointerType::get(b.getContext());
  auto type =
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                  {b.getI64Type(), pointer, pointer});
  LLVM::LLVMFuncOp::create(b, module.getLoc(), kParallelFor, type,
                           LLVM::Linkage::ExternWeak);
}

namespace {

/// Moves one loop's body into a function.
class Outliner {
public:
  Outliner(ModuleOp module, scf::ParallelOp loop)
      : module(module), loop(loop), loc(loop.getLoc()),
        converter(module.getContext()),
        pointer(LLVM::LLVMPointerType::get(module.getContext())) {}

  void run() {
    captured = collectCaptured();
    context = contextType();
    func::FuncOp task = buildTask();
    OpBuilder b(loop);
    buildCall(b, task);
    loop.erase();
  }

private:
  ModuleOp module;
  scf::ParallelOp loop;
  Location loc;
  LLVMTypeConverter converter;
  Type pointer;
  SmallVector<Value> captured;
  LLVM::LLVMStructType context;

  /// Values from above, but for constants, which the task makes itself.
  SmallVector<Value> collectCaptured() {
    llvm::SetVector<Value> used;
    getUsedValuesDefinedAbove(loop.getRegion(), used);
    // The lower bound and the step, for the index of a task.
    used.insert(loop.getLowerBound()[0]);
    used.insert(loop.getStep()[0]);
    SmallVector<Value> values;
    for (Value value : used)
      if (!matchPattern(value, m_Constant()))
        values.push_back(value);
    return values;
  }

  LLVM::LLVMStructType contextType() {
    SmallVector<Type> types;
    for (Value value : captured)
      types.push_back(converter.convertType(value.getType()));
    return LLVM::LLVMStructType::getLiteral(module.getContext(), types);
  }

  /// Address of captured value `i` in the context.
  Value fieldOf(OpBuilder &b, Value contextPointer, int32_t i) {
    return LLVM::GEPOp::create(b, loc, pointer, context, contextPointer,
                               ArrayRef<LLVM::GEPArg>{0, i});
  }

  static Value cast(OpBuilder &b, Location loc, Value value, Type type) {
    if (value.getType() == type)
      return value;
    return UnrealizedConversionCastOp::create(b, loc, type, value).getResult(0);
  }

  /// func.func private @NAME_taskN(%context: !llvm.ptr, %i: i64)
  func::FuncOp buildTask() {
    auto parent = loop->getParentOfType<func::FuncOp>();
    OpBuilder b(parent);
    auto type = b.getFunctionType({pointer, b.getI64Type()}, {});
    auto task = func::FuncOp::create(b, loc, uniqueName(parent), type);
    task.setPrivate();
    b.setInsertionPointToStart(task.addEntryBlock());
    IRMapping mapping;
    for (auto [i, value] : llvm::enumerate(captured)) {
      Value field = fieldOf(b, task.getArgument(0), i);
      Value loaded = LLVM::LoadOp::create(b, loc, context.getBody()[i], field);
      mapping.map(value, cast(b, loc, loaded, value.getType()));
    }
    copyConstants(b, mapping);
    Value number = arith::IndexCastOp::create(b, loc, b.getIndexType(),
                                              task.getArgument(1));
    Value scaled = arith::MulIOp::create(b, loc, number,
                                         mapping.lookup(loop.getStep()[0]));
    mapping.map(loop.getInductionVars()[0],
                arith::AddIOp::create(
                    b, loc, mapping.lookup(loop.getLowerBound()[0]), scaled)
                    .getResult());
    for (Operation &op : loop.getBody()->without_terminator())
      b.clone(op, mapping);
    func::ReturnOp::create(b, loc);
    return task;
  }

  void copyConstants(OpBuilder &b, IRMapping &mapping) {
    llvm::SetVector<Value> used;
    getUsedValuesDefinedAbove(loop.getRegion(), used);
    used.insert(loop.getLowerBound()[0]);
    used.insert(loop.getStep()[0]);
    for (Value value : used)
      if (!mapping.contains(value))
        mapping.map(value, b.clone(*value.getDefiningOp())->getResult(0));
  }

  std::string uniqueName(func::FuncOp parent) {
    for (unsigned i = 0;; ++i) {
      std::string name = (parent.getName() + "_task" + Twine(i)).str();
      if (!module.lookupSymbol(name))
        return name;
    }
  }

  void buildCall(OpBuilder &b, func::FuncOp task) {
    Value range = arith::SubIOp::create(b, loc, loop.getUpperBound()[0],
                                        loop.getLowerBound()[0]);
    Value count = arith::CeilDivSIOp::create(b, loc, range, loop.getStep()[0]);
    count = arith::IndexCastOp::create(b, loc, b.getI64Type(), count);
    Value contextPointer = storeContext(b);
    Value function = func::ConstantOp::create(b, loc, task.getFunctionType(),
                                              task.getName());
    auto converted = LLVM::LLVMPointerType::get(b.getContext());
    function = cast(b, loc, function, converted);
    Value host = LLVM::AddressOfOp::create(b, loc, pointer, kParallelFor);
    Value null = LLVM::ZeroOp::create(b, loc, pointer);
    Value hasHost =
        LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ne, host, null);
    // One task is the caller's: to wake a thread takes longer than many do.
    Value areMany = arith::CmpIOp::create(
        b, loc, arith::CmpIPredicate::sgt, count,
        arith::ConstantIntOp::create(b, loc, 1, /*width=*/64));
    Value asksHost = arith::AndIOp::create(b, loc, hasHost, areMany);
    scf::IfOp::create(
        b, loc, asksHost,
        [&](OpBuilder &b, Location) {
          LLVM::CallOp::create(b, loc, TypeRange(), kParallelFor,
                               ValueRange{count, function, contextPointer});
          scf::YieldOp::create(b, loc);
        },
        [&](OpBuilder &b, Location) {
          callInTurn(b, task, contextPointer);
          scf::YieldOp::create(b, loc);
        });
  }

  void callInTurn(OpBuilder &b, func::FuncOp task, Value contextPointer) {
    scf::ForOp::create(
        b, loc, loop.getLowerBound()[0], loop.getUpperBound()[0],
        loop.getStep()[0], ValueRange(),
        [&](OpBuilder &b, Location, Value i, ValueRange) {
          Value offset =
              arith::SubIOp::create(b, loc, i, loop.getLowerBound()[0]);
          Value number =
              arith::DivUIOp::create(b, loc, offset, loop.getStep()[0]);
          number = arith::IndexCastOp::create(b, loc, b.getI64Type(), number);
          func::CallOp::create(b, loc, task,
                               ValueRange{contextPointer, number});
          scf::YieldOp::create(b, loc);
        });
  }

  /// The captured values in a struct on the stack of the function, made once.
  Value storeContext(OpBuilder &b) {
    auto parent = loop->getParentOfType<func::FuncOp>();
    OpBuilder entry = OpBuilder::atBlockBegin(&parent.getBody().front());
    Value one = LLVM::ConstantOp::create(entry, loc, entry.getI64Type(), 1);
    Value memory = LLVM::AllocaOp::create(entry, loc, pointer, context, one);
    for (auto [i, value] : llvm::enumerate(captured))
      LLVM::StoreOp::create(b, loc, cast(b, loc, value, context.getBody()[i]),
                            fieldOf(b, memory, i));
    return memory;
  }
};

struct OutlineParallelPass
    : moe::impl::MoEOutlineParallelBase<OutlineParallelPass> {
  void runOnOperation() override {
    SmallVector<scf::ParallelOp> loops;
    getOperation()->walk([&](scf::ParallelOp loop) {
      if (loop.getNumLoops() == 1 && loop.getInitVals().empty() &&
          loop->getParentOfType<func::FuncOp>())
        loops.push_back(loop);
    });
    if (loops.empty())
      return;
    declareParallelFor(getOperation());
    for (scf::ParallelOp loop : loops)
      Outliner(getOperation(), loop).run();
  }
};

} // namespace
