//===- StatsEntry.cpp - The variant of an entry with statistics -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StatsEntry.h"

#include "mlir/Dialect/LLVMIR/FunctionCallUtils.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Runtime/moe.h"
#include "moe/Target/EntrySignature.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// The attribute
//===----------------------------------------------------------------------===//

DictionaryAttr mlir::moe::makeStatsAttr(const StatsVariant &variant,
                                        func::FuncOp shapes) {
  Builder builder(shapes.getContext());
  SmallVector<int64_t> pairs;
  for (auto [layer, statistic] : variant.appended) {
    pairs.push_back(layer);
    pairs.push_back(static_cast<int64_t>(statistic));
  }
  return builder.getDictionaryAttr(
      {builder.getNamedAttr("function", SymbolRefAttr::get(variant.function)),
       builder.getNamedAttr("shapes", SymbolRefAttr::get(shapes)),
       builder.getNamedAttr("statistics",
                            builder.getDenseI64ArrayAttr(pairs))});
}

FailureOr<SmallVector<AppendedStatistic>>
mlir::moe::readAppended(func::FuncOp entry, DictionaryAttr attr) {
  auto pairs = attr.getAs<DenseI64ArrayAttr>("statistics");
  SmallVector<AppendedStatistic> appended;
  bool isValid = pairs && !pairs.empty() && pairs.size() % 2 == 0;
  for (int64_t i = 0, e = isValid ? pairs.size() : 0; i < e; i += 2) {
    isValid &= pairs[i] >= 0 && pairs[i + 1] >= 0 &&
               pairs[i + 1] < int64_t(std::size(kAllStatistics));
    appended.push_back({static_cast<unsigned>(pairs[i]),
                        static_cast<RoutingStatistic>(pairs[i + 1])});
  }
  if (isValid)
    return appended;
  return entry.emitError() << "@" << entry.getName() << " has " << kStatsAttr
                           << ", but not as moe-prepare-entry writes it";
}

//===----------------------------------------------------------------------===//
// The function
//===----------------------------------------------------------------------===//

/// Members of moe_stats, all pointers.
static constexpr int64_t kNumMembers = std::size(kAllStatistics);

namespace {

class RunStatsBuilder {
public:
  explicit RunStatsBuilder(StatsEntry &entry)
      : entry(entry), b(entry.run.getLoc(), entry.run.getContext()),
        ptr(LLVM::LLVMPointerType::get(b.getContext())), i32(b.getI32Type()),
        i64(b.getI64Type()) {
    b.setInsertionPointAfter(entry.run);
  }

  LLVM::LLVMFuncOp build(StringRef name);

private:
  StatsEntry &entry;
  ImplicitLocOpBuilder b;
  Type ptr, i32, i64;

  Value constant(Type type, int64_t value) {
    return LLVM::ConstantOp::create(b, type, b.getIntegerAttr(type, value));
  }
  Value allocate(Type type, int64_t count) {
    return LLVM::AllocaOp::create(b, ptr, type, constant(i64, count));
  }
  Value at(Value array, Type type, int64_t i) {
    return LLVM::GEPOp::create(b, ptr, type, array,
                               ArrayRef<LLVM::GEPArg>{int32_t(i)});
  }
  Value load(Type type, Value address) {
    return LLVM::LoadOp::create(b, type, address);
  }
  void store(Value value, Value address) {
    LLVM::StoreOp::create(b, value, address);
  }
  Value isNull(Value pointer) {
    return LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::eq, pointer,
                                LLVM::ZeroOp::create(b, ptr).getResult());
  }
  /// Calls with as many of the operands as the callee takes.
  Value call(LLVM::LLVMFuncOp callee, ValueRange operands) {
    return LLVM::CallOp::create(b, callee,
                                operands.take_front(callee.getNumArguments()))
        .getResult();
  }
  LLVM::LLVMFuncOp lookUp(FailureOr<LLVM::LLVMFuncOp> function) {
    assert(succeeded(function) && "declared with other types");
    return *function;
  }

  void returnIf(Value condition, function_ref<Value()> result);
  Value countBytes(MemRefType type, Value sizes);
  Value buildTensor(MemRefType type, Value sizes, Value data);
};

} // namespace

void RunStatsBuilder::returnIf(Value condition, function_ref<Value()> result) {
  Block *here = b.getInsertionBlock();
  Region *region = here->getParent();
  Block *leave = b.createBlock(region, region->end());
  LLVM::ReturnOp::create(b, result());
  Block *next = b.createBlock(region, region->end());
  b.setInsertionPointToEnd(here);
  LLVM::CondBrOp::create(b, condition, leave, next);
  b.setInsertionPointToEnd(next);
}

/// The bytes of a tensor whose sizes are in the array at `sizes`.
Value RunStatsBuilder::countBytes(MemRefType type, Value sizes) {
  Value bytes = constant(i64, type.getElementTypeBitWidth() / 8);
  for (int64_t i = 0; i < type.getRank(); ++i)
    bytes = LLVM::MulOp::create(b, bytes, load(i64, at(sizes, i64, i)));
  return bytes;
}

/// A moe_tensor on the stack.
Value RunStatsBuilder::buildTensor(MemRefType type, Value sizes, Value data) {
  auto tensorType = LLVM::LLVMStructType::getLiteral(b.getContext(),
                                                     {ptr, ptr, ptr, i32, i32});
  moe_type elementType = *getCType(*getElementType(type.getElementType()));
  Value tensor = allocate(tensorType, 1);
  Value members[] = {data, sizes, LLVM::ZeroOp::create(b, ptr),
                     constant(i32, type.getRank()), constant(i32, elementType)};
  for (auto [i, member] : llvm::enumerate(members))
    store(member, LLVM::GEPOp::create(b, ptr, tensorType, tensor,
                                      ArrayRef<LLVM::GEPArg>{0, int32_t(i)}));
  return tensor;
}

LLVM::LLVMFuncOp RunStatsBuilder::build(StringRef name) {
  OpBuilder::InsertionGuard guard(b);
  Operation *module = entry.run->getParentOp();
  auto malloc = lookUp(LLVM::lookupOrCreateMallocFn(b, module, i64));
  auto free = lookUp(LLVM::lookupOrCreateFreeFn(b, module));
  b.setInsertionPointAfter(entry.run);
  auto type = LLVM::LLVMFunctionType::get(i32, {ptr, ptr, ptr, i64});
  auto func = LLVM::LLVMFuncOp::create(b, name, type, LLVM::Linkage::Internal);
  b.setInsertionPointToStart(func.addEntryBlock(b));
  Value tensors = func.getArgument(0), stats = func.getArgument(1);
  Value workspace = func.getArgument(2), bytes = func.getArgument(3);
  int64_t numStatistics = entry.appended.size();

  returnIf(isNull(stats),
           [&] { return call(entry.run, {tensors, workspace, bytes}); });
  int64_t numSizes = entry.numResultSizes;
  for (MemRefType statistic : entry.types)
    numSizes += statistic.getRank();
  Value sizes = allocate(i64, numSizes);
  Value status = call(entry.variantCheck, {tensors, sizes});
  Value isBad = LLVM::ICmpOp::create(b, LLVM::ICmpPredicate::ne, status,
                                     constant(i32, MOE_OK));
  returnIf(isBad, [&] { return status; });

  Value all = allocate(ptr, entry.numTensors + numStatistics);
  for (int64_t i = 0; i < entry.numTensors; ++i)
    store(load(ptr, at(tensors, ptr, i)), at(all, ptr, i));
  SmallVector<Value> scratches;
  int64_t firstSize = entry.numResultSizes;
  for (int64_t i = 0; i < numStatistics; ++i) {
    auto [layer, statistic] = entry.appended[i];
    MemRefType memref = entry.types[i];
    Value ownSizes = at(sizes, i64, firstSize);
    firstSize += memref.getRank();
    Value member =
        load(ptr, at(stats, ptr, layer * kNumMembers + int64_t(statistic)));
    Value none = isNull(member);
    Value needed = LLVM::SelectOp::create(b, none, countBytes(memref, ownSizes),
                                          constant(i64, 0));
    Value scratch = LLVM::CallOp::create(b, malloc, needed).getResult();
    scratches.push_back(scratch);
    Value data = LLVM::SelectOp::create(b, none, scratch, member);
    store(buildTensor(memref, ownSizes, data),
          at(all, ptr, entry.numTensors + i));
  }
  // The variant allocates what it needs: the workspace is the plain layer's.
  Value noWorkspace = LLVM::ZeroOp::create(b, ptr);
  Value result = call(entry.variantRun, {all, noWorkspace, constant(i64, 0)});
  for (Value scratch : scratches)
    LLVM::CallOp::create(b, free, scratch);
  LLVM::ReturnOp::create(b, result);
  return func;
}

LLVM::LLVMFuncOp mlir::moe::buildRunStats(StatsEntry &entry, StringRef name) {
  return RunStatsBuilder(entry).build(name);
}
