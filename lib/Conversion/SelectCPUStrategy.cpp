//===- SelectCPUStrategy.cpp - How a grouped matmul runs on a CPU ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AMXBlock.h"
#include "ColumnBlock.h"
#include "ColumnVectors.h"
#include "GateStrategy.h"
#include "RowGroups.h"
#include "RowPanel.h"
#include "VectorRegion.h"
#include "WeightLayout.h"
#include "mlir/IR/Remarks.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/ADT/StringSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESELECTCPUSTRATEGY
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {
/// What there is to know about a machine's vector instructions.
struct VectorISA {
  int64_t lanes;       ///< f32 in a register
  int64_t tileRows;    ///< with tileColumns: accumulators that fit
  int64_t tileColumns; ///< beside the operands of a step
  CPUKernel kernel;    ///< Where all factors are bf16; else fma.
  bool amx =
      false; ///< Where there is no obstacle; other matmuls are as without.
};
} // namespace

static std::optional<VectorISA> findISA(StringRef name) {
  using Kernel = CPUKernel;
  return llvm::StringSwitch<std::optional<VectorISA>>(name)
      // Sixteen registers: 12 sums, 3 rows, 1 weight.
      .Case("generic", VectorISA{4, 3, 4, Kernel::Fma})
      .Case("avx2", VectorISA{8, 3, 4, Kernel::Fma})
      // Thirty-two: 24 sums, 4 rows, 1 weight and what the scheduler wants.
      .Case("avx512", VectorISA{16, 4, 6, Kernel::Fma})
      .Case("avx512bf16", VectorISA{16, 4, 6, Kernel::Bf16Dot})
      .Case("amx-bf16", VectorISA{16, 4, 6, Kernel::Bf16Dot, true})
      // Its products of tiles, for machines without; for tests.
      .Case("amx-bf16-emulated", VectorISA{16, 4, 6, Kernel::Fma, true})
      .Default(std::nullopt);
}

/// Why a term cannot be lowered; empty if it can.
static std::string findObstacle(const Matmul::Term &term) {
  if (std::string obstacle = findPrologueObstacle(term); !obstacle.empty())
    return obstacle;
  if (term.decode)
    return "a weight is decoded; decode it before the layer";
  if (ShapedType::isDynamic(term.getLength()) || term.getLength() < 1)
    return "K, the length of a sum, is not a positive constant; make it static";
  if (!runsAlongSum(term) && !runsAlongColumns(term))
    return "a weight has neither k nor n as its last index; store it as E×N×K "
           "or E×K×N";
  return "";
}

static std::string findObstacle(Matmul op) {
  if (ShapedType::isDynamic(op.getNumColumns()) || op.getNumColumns() < 1)
    return "N, the number of columns, is not a positive constant; make it "
           "static";
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product)
      if (std::string obstacle = findObstacle(term); !obstacle.empty())
        return obstacle;
  for (AffineMap map : op.getExtraMaps().getAsValueRange<AffineMapAttr>())
    if (map.isFunctionOfDim(Matmul::kColumn) && !getColumnStride(map))
      return "an extra does not have n as its last index; transpose it";
  if (Operation *scalar = findScalarOnlyOp(op.getEpilogue()))
    return ("'" + scalar->getName().getStringRef() +
            "' in the epilogue does not work on vectors; use elementwise ops "
            "of arith and math")
        .str();
  return "";
}

/// Wide blocks, so that a row of weights is read in runs of many cache lines,
/// of about equal width, and short parts of k, whose panel (24 KB) stays in the
/// first cache.
static CPUMatmulAttr widenBlocks(Matmul op, CPUMatmulAttr config) {
  constexpr int64_t kBlockColumns = 480, kPartBytes = 256;
  SmallVector<Matmul::Product> products = op.getProducts();
  int64_t width = std::lcm(config.getTileColumns(), config.getLanes());
  for (const ColumnGroup &group : findColumnGroups(products))
    width = std::lcm(width, ColumnShape(config, group).getColumnsOfTile());
  int64_t columns = op.getNumColumns();
  int64_t numBlocks = llvm::divideCeil(columns, std::max(kBlockColumns, width));
  int64_t bytes = config.usesBf16Dot() ? 2 : 4;
  return CPUMatmulAttr::get(
      op.getContext(), config.getTileRows(), config.getTileColumns(),
      config.getBlockRows(),
      llvm::alignTo(llvm::divideCeil(columns, numBlocks), width),
      llvm::alignTo(kPartBytes / bytes, config.getStep()), config.getLanes(),
      config.getKernel());
}

/// Rows are turned for each block of columns, so blocks are wide, but where
/// they are all the tasks there are; the rows' panel, 256 KB, stays in the
/// second cache.
static CPUMatmulAttr chooseAMXConfig(Matmul op) {
  constexpr int64_t kBlockRows = 64, kBlockSum = 2048;
  int64_t mostColumns = isRouterLike(op)   ? 2 * kAMXTile
                        : op.isCombining() ? 128
                                           : 256;
  int64_t columns = op.getNumColumns();
  int64_t numBlocks = llvm::divideCeil(columns, mostColumns);
  return CPUMatmulAttr::get(
      op.getContext(), kAMXTile, kAMXTile, kBlockRows,
      llvm::alignTo(llvm::divideCeil(columns, numBlocks), 2 * kAMXTile),
      kBlockSum, kAMXTile, CPUKernel::Amx);
}

/// Columns of a task. A wide block reads long runs of weights, and its rows
/// fewer times; but the blocks of a combining matmul are all its tasks, and
/// have to be enough for the threads of a large machine.
static int64_t chooseBlockColumns(Matmul op, int64_t unit) {
  // A router's are few, and one token's logits come from memory: by all
  // threads.
  constexpr int64_t kRouterColumns = 16;
  if (isRouterLike(op))
    return llvm::alignTo(kRouterColumns, unit);
  constexpr int64_t kMostColumns = 192, kTasks = 16;
  int64_t columns = op.getNumColumns();
  int64_t numBlocks = llvm::divideCeil(columns, std::max(kMostColumns, unit));
  if (op.isCombining())
    numBlocks = std::max(
        numBlocks, std::min<int64_t>(kTasks, llvm::divideCeil(columns, unit)));
  return llvm::alignTo(llvm::divideCeil(columns, numBlocks), unit);
}

static CPUMatmulAttr chooseConfig(Matmul op, const VectorISA &isa) {
  if (isa.amx && findAMXObstacle(op).empty())
    return chooseAMXConfig(op);
  bool hasPrologue = false, hasColumns = false;
  int64_t bytes = 1;
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product) {
      hasPrologue |= static_cast<bool>(term.prologue);
      hasColumns |= !runsAlongSum(term);
      int64_t bits = getWeightType(term).getIntOrFloatBitWidth();
      bytes = std::max(bytes, bits / 8);
    }
  // A block of rows, 512 KB, stays in the second cache; the weights of a tile,
  // 24 KB, in the first.
  constexpr int64_t kBlockRows = 128, kTileBytes = 24 * 1024;
  int64_t tileRows = isa.tileRows, tileColumns = isa.tileColumns;
  if (isRouterLike(op) && !hasColumns && isa.lanes == 16) {
    // As many sums, and two tiles to a vector of columns: four tasks for 64
    // experts, all alike.
    tileRows = 3;
    tileColumns = 8;
  }
  int64_t tileBytes = kTileBytes, width = std::lcm(tileColumns, isa.lanes);
  if (hasPrologue) {
    // Rows are computed for four times as many columns, from a panel that is as
    // much shorter.
    tileBytes /= 4;
    width *= 4;
  }
  CPUKernel kernel = multipliesBf16(op) ? isa.kernel : CPUKernel::Fma;
  int64_t step = (kernel == CPUKernel::Bf16Dot ? 2 : 1) * isa.lanes;
  int64_t blockSum =
      llvm::alignDown(tileBytes / (bytes * isa.tileColumns), step);
  auto config = CPUMatmulAttr::get(op.getContext(), tileRows, tileColumns,
                                   llvm::alignDown(kBlockRows, tileRows),
                                   chooseBlockColumns(op, width), blockSum,
                                   isa.lanes, kernel);
  return hasColumns ? widenBlocks(op, config) : config;
}

namespace {
struct SelectCPUStrategyPass
    : moe::impl::MoESelectCPUStrategyBase<SelectCPUStrategyPass> {
  using Base::Base;

  void runOnOperation() override {
    std::optional<VectorISA> vectorISA = findISA(isa);
    if (!vectorISA) {
      getOperation()->emitError("moe-select-cpu-strategy: unknown isa '")
          << isa << "'; use generic, avx2, avx512, avx512bf16 or amx-bf16";
      return signalPassFailure();
    }
    WalkResult result = getOperation()->walk([&](Operation *op) {
      if (auto matmul = dyn_cast<Matmul>(op))
        return WalkResult(select(matmul, *vectorISA));
      if (auto gate = dyn_cast<GateOp>(op))
        select(gate);
      else if (auto plan = dyn_cast<PlanOp>(op))
        select(plan);
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }

  remark::RemarkOpts remarkOptions() {
    return remark::RemarkOpts::name("cpu-strategy").category(getName());
  }

  /// 32 tokens of a gate take about as long as a thread needs to wake up.
  void select(GateOp op) { select(op, findGateObstacle(op), 32); }

  /// So do 256 of a plan, twice.
  void select(PlanOp op) { select(op, findPlanObstacle(op), 256); }

  void select(Operation *op, const std::string &obstacle, int64_t blockTokens) {
    if (!obstacle.empty()) {
      op->removeAttr(LoweringConfigInterface::kName);
      remark::missed(op->getLoc(), remarkOptions()) << obstacle;
      return;
    }
    if (!op->hasAttr(LoweringConfigInterface::kName))
      op->setAttr(LoweringConfigInterface::kName,
                  CPURoutingAttr::get(&getContext(), blockTokens));
  }

  LogicalResult select(Matmul op, const VectorISA &vectorISA) {
    auto options = remarkOptions();
    std::string obstacle = findObstacle(op);
    if (!obstacle.empty()) {
      op->removeAttr(LoweringConfigInterface::kName);
      remark::missed(op.getLoc(), options) << obstacle;
      return success();
    }
    if (Attribute pinned = op->getAttr(LoweringConfigInterface::kName)) {
      if (llvm::isa<CPUMatmulAttr>(pinned))
        return success();
      return op.emitOpError("cannot use its ")
             << pinned << " on a CPU; use #moe.cpu_matmul, or leave it out";
    }
    CPUMatmulAttr config = chooseConfig(op, vectorISA);
    op->setAttr(LoweringConfigInterface::kName, config);
    std::string text;
    llvm::raw_string_ostream(text) << config;
    remark::passed(op.getLoc(), options) << text;
    return success();
  }
};
} // namespace
