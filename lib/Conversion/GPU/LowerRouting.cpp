//===- LowerRouting.cpp - Routing as GPU kernels --------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the host does: sizes from shapes, scratch memory, launches. Nothing that
// a kernel computes is looked at, so that the whole can be recorded as a graph.
//
//===----------------------------------------------------------------------===//

#include "LowerRouting.h"

#include "PlanKernel.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/ADT/TypeSwitch.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;

static Value buildSize(ImplicitLocOpBuilder &b, Value buffer, int64_t dim) {
  return memref::DimOp::create(b, buffer, dim);
}

static Value toI32(ImplicitLocOpBuilder &b, Value index) {
  return arith::IndexCastOp::create(b, b.getI32Type(), index);
}

static Value buildConstant(ImplicitLocOpBuilder &b, int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

/// min(max(value, lower), upper) of numbers that are not negative.
static Value clamp(ImplicitLocOpBuilder &b, Value value, int64_t lower,
                   int64_t upper) {
  value = arith::MaxSIOp::create(b, value, buildConstant(b, lower));
  return arith::MinSIOp::create(b, value, buildConstant(b, upper));
}

static Value ceilDiv(ImplicitLocOpBuilder &b, Value value, Value divisor) {
  Value one = buildConstant(b, 1);
  Value above =
      arith::AddIOp::create(b, value, arith::SubIOp::create(b, divisor, one));
  return arith::DivUIOp::create(b, above, divisor);
}

//===----------------------------------------------------------------------===//
// Plans
//===----------------------------------------------------------------------===//

namespace {

/// Launches the kernels of a plan.
class PlanLauncher {
public:
  PlanLauncher(ImplicitLocOpBuilder &b, Operation *op,
               const PlanProblem &problem, KernelModule &kernels)
      : b(b), op(op), problem(problem), kernels(kernels) {
    numTokens = buildSize(b, problem.ids, 0);
    numChoices =
        arith::MulIOp::create(b, numTokens, buildConstant(b, problem.topK));
    sizes.numTokens = toI32(b, numTokens);
    sizes.numChoices = toI32(b, numChoices);
    sizes.numRows = toI32(b, buildSize(b, problem.source, 0));
  }

  void launch() {
    if (problem.capacity)
      launchMark();
    Value numBlocks = buildConstant(b, 1), counts;
    if (mayNeedSeveralBlocks()) {
      counts = memref::AllocOp::create(
          b, MemRefType::get({kMaxPlanBlocks, problem.numExperts},
                             b.getI32Type()));
      numBlocks =
          clamp(b, ceilDiv(b, numChoices, buildConstant(b, kChoicesPerBlock)),
                1, kMaxPlanBlocks);
      launchCount(numBlocks, counts);
    }
    launchPlace(numBlocks, counts);
  }

private:
  ImplicitLocOpBuilder &b;
  Operation *op;
  const PlanProblem &problem;
  KernelModule &kernels;
  Value numTokens, numChoices;
  PlanSizes sizes;

  bool mayNeedSeveralBlocks() {
    int64_t tokens = cast<ShapedType>(problem.ids.getType()).getDimSize(0);
    return ShapedType::isDynamic(tokens) ||
           tokens * problem.topK > kChoicesPerBlock;
  }

  PlanSizes toDevice(const IRMapping &mapping) {
    auto mapped = [&](Value value) {
      return value ? mapping.lookupOrNull(value) : value;
    };
    return {mapped(sizes.numTokens), mapped(sizes.numChoices),
            mapped(sizes.numRows), mapped(sizes.capacity),
            mapped(sizes.tokensPerGroup)};
  }

  void launchMark() {
    Value groupSize = numTokens;
    if (problem.tokensPerGroup)
      groupSize = arith::MinSIOp::create(b, numTokens, problem.tokensPerGroup);
    groupSize = arith::MaxSIOp::create(b, groupSize, buildConstant(b, 1));
    sizes.tokensPerGroup = toI32(b, groupSize);
    // Counts are i32; a capacity beyond them limits nothing.
    sizes.capacity = toI32(
        b, clamp(b, problem.capacity, 0, std::numeric_limits<int32_t>::max()));
    KernelParameters parameters;
    for (Value buffer : {problem.ids, problem.slots, problem.priority})
      parameters.addBuffer(buffer);
    for (Value scalar : {sizes.numTokens, sizes.numChoices, sizes.capacity,
                         sizes.tokensPerGroup})
      parameters.addScalar(scalar);
    SymbolRefAttr kernel = kernels.addKernel(
        op, "plan_mark", problem.numThreads(), parameters,
        [&](KernelBuilder &b, const IRMapping &mapping, Value shared) {
          buildMarkKernel(b, problem, mapping, toDevice(mapping), shared);
        });
    constexpr int64_t kMaxBlocks = 1024;
    Value numBlocks =
        problem.priority
            ? ceilDiv(b, numChoices, buildConstant(b, problem.numThreads()))
            : ceilDiv(b, numTokens, groupSize);
    buildLaunch(b, kernel, clamp(b, numBlocks, 1, kMaxBlocks),
                problem.numThreads(), problem.sharedBytes(), parameters);
  }

  void launchCount(Value numBlocks, Value counts) {
    KernelParameters parameters;
    parameters.addBuffer(problem.ids);
    if (problem.capacity)
      parameters.addBuffer(problem.slots);
    parameters.addBuffer(counts);
    parameters.addScalar(sizes.numChoices);
    SymbolRefAttr kernel = kernels.addKernel(
        op, "plan_count", problem.numThreads(), parameters,
        [&](KernelBuilder &b, const IRMapping &mapping, Value shared) {
          buildCountKernel(b, problem, mapping, toDevice(mapping),
                           mapping.lookup(counts), shared);
        });
    Value isSeveral = arith::CmpIOp::create(b, arith::CmpIPredicate::ugt,
                                            numBlocks, buildConstant(b, 1));
    auto branch = scf::IfOp::create(b, isSeveral, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    buildLaunch(b, kernel, numBlocks, problem.numThreads(),
                problem.sharedBytes(), parameters);
  }

  void launchPlace(Value numBlocks, Value counts) {
    KernelParameters parameters;
    for (Value buffer :
         {problem.ids, problem.offsets, problem.slots, problem.source, counts})
      parameters.addBuffer(buffer);
    parameters.addScalar(sizes.numChoices);
    parameters.addScalar(sizes.numRows);
    SymbolRefAttr kernel = kernels.addKernel(
        op, "plan", problem.numThreads(), parameters,
        [&](KernelBuilder &b, const IRMapping &mapping, Value shared) {
          buildPlaceKernel(b, problem, mapping, toDevice(mapping),
                           counts ? mapping.lookup(counts) : Value(), shared);
        });
    buildLaunch(b, kernel, numBlocks, problem.numThreads(),
                problem.sharedBytes(), parameters);
  }
};

} // namespace

static llvm::Error lowerPlan(PlanOp op, KernelModule &kernels) {
  llvm::Expected<PlanProblem> problem = analyzePlan(op);
  if (!problem)
    return problem.takeError();
  ImplicitLocOpBuilder b(op.getLoc(), op);
  PlanLauncher(b, op, *problem, kernels).launch();
  op.erase();
  return llvm::Error::success();
}

//===----------------------------------------------------------------------===//
// All of them
//===----------------------------------------------------------------------===//

bool mlir::moe::isRouting(Operation *op) { return isa<PlanOp>(op); }

llvm::Error mlir::moe::lowerRouting(Operation *op, KernelModule &kernels) {
  return llvm::TypeSwitch<Operation *, llvm::Error>(op).Case(
      [&](PlanOp plan) { return lowerPlan(plan, kernels); });
}
