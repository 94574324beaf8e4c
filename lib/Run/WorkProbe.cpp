//===- WorkProbe.cpp - Counts the work of a call ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/WorkProbe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

/// 2 times the number of iterations, as i64.
static Value countOperations(ImplicitLocOpBuilder &b, linalg::LinalgOp op) {
  Value count = arith::ConstantIndexOp::create(b, 2);
  for (Range range : op.createLoopRanges(b, b.getLoc())) {
    Value size = getValueOrCreateConstantIndexOp(b, b.getLoc(), range.size);
    count = arith::MulIOp::create(b, count, size);
  }
  return arith::IndexCastOp::create(b, b.getI64Type(), count);
}

/// The operations of the contractions directly in `block`, a value a class;
/// other contractions below it, but for those in moe.expert, go to
/// `numUncounted`.
static SmallVector<Value> countContractions(ImplicitLocOpBuilder &b,
                                            Block &block,
                                            unsigned &numUncounted) {
  Value zero = arith::ConstantIntOp::create(b, b.getI64Type(), 0);
  SmallVector<Value> counts(kNumWorkClasses, zero);
  SmallVector<linalg::LinalgOp> contractions;
  for (Operation &op : block) {
    if (isa<ExpertOp>(op))
      continue;
    op.walk([&](linalg::LinalgOp contraction) {
      if (!linalg::isaContractionOpInterface(contraction))
        return;
      if (contraction->getBlock() == &block)
        contractions.push_back(contraction);
      else
        ++numUncounted;
    });
  }
  for (linalg::LinalgOp contraction : contractions) {
    Value &count = counts[static_cast<size_t>(classify(contraction))];
    count = arith::AddIOp::create(b, count, countOperations(b, contraction));
  }
  return counts;
}

//===----------------------------------------------------------------------===//
// The probe
//===----------------------------------------------------------------------===//

namespace mlir::moe {

class WorkProbeBuilder {
public:
  explicit WorkProbeBuilder(func::FuncOp entry)
      : entry(entry), b(entry.getLoc(), entry.getContext()) {}

  WorkProbe build();

private:
  WorkProbe::Argument inspect(BlockArgument argument, bool hasParam);
  Value countExpert(ExpertOp op);

  func::FuncOp entry;
  ImplicitLocOpBuilder b;
  SmallVector<ExpertOp> experts;
  WorkProbe probe;
};

} // namespace mlir::moe

/// Follows the uses of an argument through ops that leave the first dimension
/// alone.
WorkProbe::Argument WorkProbeBuilder::inspect(BlockArgument argument,
                                              bool hasParam) {
  WorkProbe::Argument result;
  bool isPerExpert = !argument.use_empty();
  SmallVector<Value> values = {argument};
  while (!values.empty()) {
    for (OpOperand &use : values.pop_back_val().getUses()) {
      Operation *user = use.getOwner();
      auto expert = dyn_cast<ExpertOp>(user);
      if (isa<tensor::CastOp, tensor::ExpandShapeOp, tensor::CollapseShapeOp>(
              user))
        values.push_back(user->getResult(0));
      else if (expert && llvm::is_contained(expert.getParams(), use.get()) &&
               llvm::is_contained(experts, expert))
        result.experts.push_back(llvm::find(experts, expert) - experts.begin());
      else if (!isa<tensor::DimOp>(user))
        isPerExpert = false;
    }
  }
  result.isWeight = hasParam || (isPerExpert && !result.experts.empty());
  if (!isPerExpert)
    result.experts.clear();
  return result;
}

/// A copy of `op` that yields, for each expert, the operations a class and the
/// number of rows: E × (classes + 1). Zeros for an expert without rows.
Value WorkProbeBuilder::countExpert(ExpertOp op) {
  b.setInsertionPoint(op);
  b.setLoc(op.getLoc());
  constexpr int64_t width = kNumWorkClasses + 1;
  Value one = arith::ConstantIndexOp::create(b, 1);
  Value numOffsets = tensor::DimOp::create(b, op.getOffsets(), 0);
  Value numExperts = arith::SubIOp::create(b, numOffsets, one);
  auto type =
      RankedTensorType::get({ShapedType::kDynamic, width}, b.getI64Type());
  Value empty = tensor::EmptyOp::create(b, type, numExperts);
  Value zero = arith::ConstantIntOp::create(b, b.getI64Type(), 0);
  Value init = linalg::FillOp::create(b, zero, empty).getResult(0);

  auto counter = ExpertOp::create(b, TypeRange{type}, op.getOffsets(),
                                  op.getRows(), op.getParams(), init);
  IRMapping mapping;
  op->getRegion(0).cloneInto(&counter->getRegion(0), mapping);
  YieldOp yield = counter.getYieldOp();
  b.setInsertionPoint(yield);
  SmallVector<Value> counts =
      countContractions(b, counter->getRegion(0).front(), probe.numUncounted);
  Value numRows = one;
  if (!op.getRows().empty())
    numRows = tensor::DimOp::create(b, counter.getRowArgs().front(), 0);
  counts.push_back(arith::IndexCastOp::create(b, b.getI64Type(), numRows));
  Value slice = tensor::FromElementsOp::create(b, counts);
  yield->setOperands(slice);
  return counter->getResult(0);
}

WorkProbe WorkProbeBuilder::build() {
  Block &body = entry.getBody().front();
  llvm::append_range(experts, body.getOps<ExpertOp>());
  probe.numExpertOps = experts.size();
  for (BlockArgument argument : body.getArguments())
    probe.arguments.push_back(inspect(
        argument, bool(entry.getArgAttr(argument.getArgNumber(), kParamAttr))));
  SmallVector<Value> results(1); // The first is made below.
  for (ExpertOp op : experts)
    results.push_back(countExpert(op));
  Operation *terminator = body.getTerminator();
  b.setInsertionPoint(terminator);
  results.front() = tensor::FromElementsOp::create(
      b, countContractions(b, body, probe.numUncounted));
  terminator->setOperands(results);
  entry.removeResAttrsAttr();
  entry.setFunctionType(b.getFunctionType(entry.getArgumentTypes(),
                                          TypeRange(ValueRange(results))));
  return probe;
}

/// Removes what computes values and not sizes, and is not needed to route.
static LogicalResult simplify(ModuleOp module) {
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  // linalg ops know their sizes, elementwise ops on tensors do not.
  pm.addPass(createConvertElementwiseToLinalgPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(memref::createResolveRankedShapeTypeResultDimsPass());
  pm.addPass(createCSEPass());
  pm.addPass(createCanonicalizerPass());
  return pm.run(module);
}

FailureOr<WorkProbe> WorkProbe::build(ModuleOp module, StringRef entryName) {
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  pm.addPass(createInlinerPass());
  FailureOr<func::FuncOp> entry = findEntry(module, entryName);
  if (failed(entry))
    return failure();
  entry->setPublic(); // Nobody calls it, but it stays.
  if (failed(pm.run(module)))
    return failure();
  if (!entry->getBody().hasOneBlock())
    return entry->emitError("cannot count the work of a function with several "
                            "blocks; use scf ops for its control flow");
  WorkProbe probe = WorkProbeBuilder(*entry).build();
  if (failed(simplify(module)))
    return failure();
  return probe;
}

//===----------------------------------------------------------------------===//
// Reading the counts
//===----------------------------------------------------------------------===//

static ArrayRef<int64_t> getIntegers(const HostTensor &tensor) {
  return {reinterpret_cast<const int64_t *>(tensor.getData()),
          tensor.getByteSize() / sizeof(int64_t)};
}

/// Whether expert `e` has rows in one of the moe.experts `ops`.
static bool isActive(ArrayRef<HostTensor> expertCounts, ArrayRef<unsigned> ops,
                     int64_t e) {
  constexpr size_t width = kNumWorkClasses + 1;
  return llvm::any_of(ops, [&](unsigned op) {
    ArrayRef<int64_t> counts = getIntegers(expertCounts[op]);
    size_t place = e * width + width - 1;
    return place < counts.size() && counts[place] > 0;
  });
}

Work WorkProbe::read(ArrayRef<HostTensor> counts,
                     ArrayRef<HostTensor> argumentValues,
                     ArrayRef<HostTensor> results) const {
  assert(counts.size() == 1 + numExpertOps && "not the counts of this probe");
  Work work;
  work.numUncounted = numUncounted;
  for (auto [type, count] : llvm::enumerate(getIntegers(counts.front())))
    work.operations[type] += count;

  ArrayRef<HostTensor> expertCounts = counts.drop_front();
  for (const HostTensor &tensor : expertCounts) {
    Work::Expert &expert = work.experts.emplace_back();
    ArrayRef<int64_t> rest = getIntegers(tensor);
    for (; !rest.empty(); rest = rest.drop_front(kNumWorkClasses + 1)) {
      for (size_t type = 0; type < kNumWorkClasses; ++type)
        work.operations[type] += rest[type];
      ++expert.numExperts;
      expert.numRows += rest[kNumWorkClasses];
      expert.numActive += rest[kNumWorkClasses] > 0;
    }
  }

  for (auto [argument, value] : llvm::zip(arguments, argumentValues)) {
    if (!argument.isWeight) {
      work.activationBytes += value.getByteSize();
      continue;
    }
    work.weightBytes += value.getByteSize();
    if (argument.experts.empty()) {
      work.touchedWeightBytes += value.getByteSize();
      continue;
    }
    int64_t numExperts = work.experts[argument.experts.front()].numExperts;
    for (int64_t e = 0; e < numExperts; ++e)
      if (isActive(expertCounts, argument.experts, e))
        work.touchedWeightBytes += value.getByteSize() / numExperts;
  }
  for (const HostTensor &result : results)
    work.activationBytes += result.getByteSize();
  return work;
}
