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

#include "LogitsKernel.h"
#include "PlanKernel.h"
#include "SelectKernel.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

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
// Gates and routes
//===----------------------------------------------------------------------===//

/// Up to so many tokens, the router is spread over as many warps as possible.
static constexpr int64_t kFewTokens = 16;

static LogitsTile getTileOfFew(int64_t numTokens) {
  constexpr int64_t kMostTokens = 4;
  int64_t tokens =
      ShapedType::isDynamic(numTokens)
          ? kMostTokens
          : std::min<int64_t>(kMostTokens, llvm::PowerOf2Ceil(std::max<int64_t>(
                                               numTokens, 1)));
  return {tokens, /*experts=*/1, /*tokenWarps=*/1, /*expertWarps=*/4};
}

static LogitsTile getTileOfMany(int64_t numExperts) {
  constexpr int64_t kWarps = 8, kExperts = 4, kMostExpertWarps = 4;
  int64_t expertWarps = std::min<int64_t>(
      kMostExpertWarps,
      llvm::PowerOf2Ceil(llvm::divideCeil(numExperts, kExperts)));
  return {/*tokens=*/8, kExperts, kWarps / expertWarps, expertWarps};
}

namespace {

/// Launches what comes before a plan: logits, and the choice of experts.
class SelectionLauncher {
public:
  SelectionLauncher(ImplicitLocOpBuilder &b, Operation *op,
                    KernelModule &kernels, Value tokens)
      : b(b), op(op), kernels(kernels), numTokens(buildSize(b, tokens, 0)),
        deviceTokens(toI32(b, numTokens)),
        staticTokens(cast<ShapedType>(tokens.getType()).getDimSize(0)) {}

  /// Memory for a number a token and expert.
  Value allocate(int64_t numExperts) {
    auto type = MemRefType::get({staticTokens, numExperts}, b.getF32Type());
    SmallVector<Value> sizes;
    if (type.isDynamicDim(0))
      sizes.push_back(numTokens);
    return memref::AllocOp::create(b, type, sizes);
  }

  void launchLogits(const LogitsProblem &problem, Value logits, Value mix) {
    LogitsTile few = getTileOfFew(staticTokens);
    LogitsTile many = getTileOfMany(problem.numExperts);
    if (!ShapedType::isDynamic(staticTokens)) {
      bool isFew = staticTokens <= kFewTokens;
      return launchLogits(problem, isFew ? few : many, "route_logits", logits,
                          mix);
    }
    Value isFew = arith::CmpIOp::create(b, arith::CmpIPredicate::ule, numTokens,
                                        buildConstant(b, kFewTokens));
    auto branch = scf::IfOp::create(b, isFew, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    launchLogits(problem, few, "route_few_logits", logits, mix);
    b.setInsertionPointToStart(branch.elseBlock());
    launchLogits(problem, many, "route_logits", logits, mix);
  }

  void launchSelect(const SelectProblem &problem, StringRef name, Value logits,
                    Value mix) {
    KernelParameters parameters;
    for (Value buffer : {logits, mix, problem.bias, problem.idMap,
                         problem.weights, problem.ids})
      parameters.addBuffer(buffer);
    addRegion(problem.region, parameters);
    SymbolRefAttr kernel = kernels.addKernel(
        op, name, kSelectThreads, parameters,
        [&](KernelBuilder &b, const IRMapping &mapping, Value) {
          buildSelectKernel(b, problem, mapping, mapping.lookup(deviceTokens),
                            mapping.lookup(logits),
                            mix ? mapping.lookup(mix) : Value());
        });
    Value blocks =
        ceilDiv(b, numTokens, buildConstant(b, kSelectThreads / kWarpSize));
    launch(kernel, blocks, kSelectThreads, parameters);
  }

private:
  ImplicitLocOpBuilder &b;
  Operation *op;
  KernelModule &kernels;
  Value numTokens, deviceTokens;
  int64_t staticTokens;

  void addRegion(const DeviceRegion &region, KernelParameters &parameters) {
    for (Value extra : region.extras)
      parameters.addBuffer(extra);
    for (Value scalar : region.scalars)
      parameters.addScalar(scalar);
    parameters.addScalar(deviceTokens);
  }

  /// With at least one block.
  void launch(SymbolRefAttr kernel, Value numBlocks, int64_t numThreads,
              const KernelParameters &parameters) {
    numBlocks = arith::MaxSIOp::create(b, numBlocks, buildConstant(b, 1));
    buildLaunch(b, kernel, numBlocks, numThreads, /*sharedBytes=*/0,
                parameters);
  }

  void launchLogits(const LogitsProblem &problem, const LogitsTile &tile,
                    StringRef name, Value logits, Value mix) {
    KernelParameters parameters;
    for (Value buffer : {problem.x, problem.router, logits, mix})
      parameters.addBuffer(buffer);
    addRegion(problem.region, parameters);
    SymbolRefAttr kernel = kernels.addKernel(
        op, name, tile.numThreads(), parameters,
        [&](KernelBuilder &b, const IRMapping &mapping, Value) {
          buildLogitsKernel(
              b, problem, tile, mapping, mapping.lookup(deviceTokens),
              mapping.lookup(logits), mix ? mapping.lookup(mix) : Value());
        });
    int64_t expertBlocks =
        llvm::divideCeil(problem.numExperts, tile.blockExperts());
    Value tokenBlocks =
        ceilDiv(b, numTokens, buildConstant(b, tile.blockTokens()));
    Value blocks =
        arith::MulIOp::create(b, tokenBlocks, buildConstant(b, expertBlocks));
    launch(kernel, blocks, tile.numThreads(), parameters);
  }
};

} // namespace

static llvm::Error lowerGate(GateOp op, KernelModule &kernels) {
  llvm::Expected<SelectProblem> problem = analyzeSelect(op);
  if (!problem)
    return problem.takeError();
  ImplicitLocOpBuilder b(op.getLoc(), op);
  SelectionLauncher(b, op, kernels, op.getLogits())
      .launchSelect(*problem, "gate", op.getLogits(), op.getMix());
  op.erase();
  return llvm::Error::success();
}

static llvm::Error lowerRoute(RouteOp op, KernelModule &kernels) {
  llvm::Expected<LogitsProblem> matmul = analyzeLogits(op);
  if (!matmul)
    return matmul.takeError();
  llvm::Expected<SelectProblem> selection = analyzeSelect(op);
  if (!selection)
    return selection.takeError();
  llvm::Expected<PlanProblem> plan = analyzePlan(op);
  if (!plan)
    return plan.takeError();
  ImplicitLocOpBuilder b(op.getLoc(), op);
  SelectionLauncher launcher(b, op, kernels, op.getX());
  Value logits = launcher.allocate(matmul->numExperts);
  Value mix = matmul->hasMix ? launcher.allocate(matmul->numExperts) : Value();
  launcher.launchLogits(*matmul, logits, mix);
  launcher.launchSelect(*selection, "route_select", logits, mix);
  PlanLauncher(b, op, *plan, kernels).launch();
  op.erase();
  return llvm::Error::success();
}

//===----------------------------------------------------------------------===//
// All of them
//===----------------------------------------------------------------------===//

bool mlir::moe::isRouting(Operation *op) {
  return isa<GateOp, PlanOp, RouteOp>(op);
}

llvm::Error mlir::moe::lowerRouting(Operation *op, KernelModule &kernels) {
  return llvm::TypeSwitch<Operation *, llvm::Error>(op)
      .Case([&](GateOp gate) { return lowerGate(gate, kernels); })
      .Case([&](PlanOp plan) { return lowerPlan(plan, kernels); })
      .Case([&](RouteOp route) { return lowerRoute(route, kernels); });
}
