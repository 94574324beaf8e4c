//===- SelectCPUStrategy.cpp - How a grouped matmul runs on a CPU ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../RowGroups.h"
#include "AMXBlock.h"
#include "CPUMachine.h"
#include "ColumnBlock.h"
#include "ColumnVectors.h"
#include "GateStrategy.h"
#include "RowPanel.h"
#include "VectorRegion.h"
#include "WeightLayout.h"
#include "WeightPanel.h"
#include "mlir/IR/Remarks.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESELECTCPUSTRATEGY
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// Why a term cannot be lowered; empty if it can.
static std::string findObstacle(const Matmul::Term &term) {
  if (std::string obstacle = findPrologueObstacle(term); !obstacle.empty())
    return obstacle;
  if (std::string obstacle = findDecodeObstacle(term); !obstacle.empty())
    return obstacle;
  if (ShapedType::isDynamic(term.getLength()) || term.getLength() < 1)
    return "K, the length of a sum, is not a positive constant; make it static";
  if (isPacked(term))
    return "";
  if (!runsAlongSum(term) && !runsAlongColumns(term))
    return "a weight has neither k nor n as its last index; store it as E×N×K "
           "or E×K×N";
  return "";
}

static bool anyTerm(Matmul op, function_ref<bool(const Matmul::Term &)> is) {
  SmallVector<Matmul::Product> products = op.getProducts();
  return llvm::any_of(products, [&](const Matmul::Product &product) {
    return llvm::any_of(product, is);
  });
}

/// Whether all weights are packed, if any are.
static bool hasPanels(Matmul op) { return anyTerm(op, isPacked); }

static std::string findObstacle(Matmul op) {
  if (ShapedType::isDynamic(op.getNumColumns()) || op.getNumColumns() < 1)
    return "N, the number of columns, is not a positive constant; make it "
           "static";
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product)
      if (std::string obstacle = findObstacle(term); !obstacle.empty())
        return obstacle;
  auto isNotPacked = [](const Matmul::Term &term) { return !isPacked(term); };
  if (hasPanels(op) && anyTerm(op, isNotPacked))
    return "some weights are packed and others are not; pack all of them, or "
           "none";
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

static bool hasPrologue(Matmul op) {
  return anyTerm(op, [](const Matmul::Term &term) {
    return static_cast<bool>(term.prologue);
  });
}

/// Whether there are weights with n as their last index.
static bool hasColumns(Matmul op) { return anyTerm(op, runsAlongColumns); }

/// Of the widest element of a weight; decoded ones are what `kernel`
/// multiplies.
static int64_t getWeightBytes(Matmul op, CPUKernel kernel) {
  int64_t bytes = 1;
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product) {
      int64_t bits = getWeightType(term).getIntOrFloatBitWidth();
      if (term.decode)
        bits = kernel == CPUKernel::Fma ? 32 : 16;
      bytes = std::max(bytes, bits / 8);
    }
  return bytes;
}

/// `length` in whole steps, one at least.
static int64_t alignToStep(int64_t length, int64_t step) {
  return std::max<int64_t>(llvm::alignDown(length, step), step);
}

/// Rows of `rowBytes` that take half of the second cache, at most `most`, in
/// whole tiles.
static int64_t chooseBlockRows(const CPUMachine &machine, int64_t rowBytes,
                               int64_t tileRows, int64_t most) {
  return alignToStep(std::min(machine.l2Bytes / 2 / rowBytes, most), tileRows);
}

/// The longest sum, but no more of it than is multiplied at once.
static int64_t getLongestSum(Matmul op, int64_t most) {
  int64_t length = 1;
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product)
      length = std::max(length, term.getLength());
  return std::min(length, most);
}

/// A tile that multiplies a vector of weights by so many rows takes no more of
/// them than the second cache serves (12 rows: 11 bytes a cycle).
static bool isTall(int64_t tileRows) {
  constexpr int64_t kTallTile = 8;
  return tileRows >= kTallTile;
}

/// The bytes of a part of a panel that stays in the first cache: two thirds of
/// it, and rows stream by from the second.
static int64_t getFirstCachePart(const CPUMachine &machine) {
  return machine.l1Bytes * 2 / 3;
}

/// The same where tiles have `tileRows` rows: for tall ones so much of the
/// second cache that their sums wait in the scratch half as often (measured on
/// Zen 5, 64 KB and 32: 1.01 to 1.03 times as fast from 256 tokens on, the same
/// below).
static int64_t getPanelPartBytes(const CPUMachine &machine, int64_t tileRows) {
  return isTall(tileRows) ? machine.l2Bytes / 16 : getFirstCachePart(machine);
}

/// The elements of k, of `bytes` each, of a part of a panel.
static int64_t choosePanelPart(int64_t partBytes, int64_t bytes, int64_t step) {
  return alignToStep(partBytes / (kPanelColumns * bytes), step);
}

/// Wide blocks, so that a row of weights is read in runs of many cache lines,
/// of about equal width, and short parts of k, whose panel of 96 columns fills
/// half of the first cache.
static CPUMatmulAttr widenBlocks(Matmul op, CPUMatmulAttr config,
                                 const CPUMachine &machine) {
  constexpr int64_t kBlockColumns = 480, kTurnedColumns = 96;
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
      alignToStep(machine.l1Bytes / 2 / kTurnedColumns / bytes,
                  config.getStep()),
      config.getLanes(), config.getKernel());
}

/// With weights along k, rows are turned for each block of columns, so blocks
/// are wide, but where they are all the tasks there are. Weights along n are
/// turned for each block of rows, so those are tall, and so are packed ones',
/// which nothing is turned for. The rows' panel, 256 or 512 KB at most, stays
/// in the second cache.
static CPUMatmulAttr chooseAMXConfig(Matmul op, const CPUMachine &machine) {
  constexpr int64_t kStep = 2 * kAMXTile, kRowBytes = 2;
  int64_t blockSum = 2048, rowLength = blockSum;
  if (hasPanels(op)) {
    // Four products, 64 cycles, read 2 KB of weights: from the first cache.
    blockSum = choosePanelPart(getFirstCachePart(machine), kRowBytes, kStep);
    rowLength = getLongestSum(op, getStretch(blockSum, kRowBytes));
  }
  int64_t mostRows = hasColumns(op) || hasPanels(op) ? 128 : 64;
  int64_t mostColumns = isRouterLike(op)   ? 2 * kAMXTile
                        : op.isCombining() ? 128
                                           : 256;
  int64_t columns = op.getNumColumns();
  int64_t numBlocks = llvm::divideCeil(columns, mostColumns);
  return CPUMatmulAttr::get(
      op.getContext(), kAMXTile, kAMXTile,
      chooseBlockRows(machine, kRowBytes * rowLength, 2 * kAMXTile, mostRows),
      llvm::alignTo(llvm::divideCeil(columns, numBlocks), 2 * kAMXTile),
      blockSum, kAMXTile, CPUKernel::Amx);
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

/// With 32 registers a tile is tall and a panel wide, so that a part of it is
/// as long as it can be, and sums wait in the scratch as seldom. A block has an
/// even number of panels, which a lone row is multiplied by two at a time.
static CPUMatmulAttr choosePackedConfig(Matmul op, const CPUMachine &machine,
                                        CPUKernel kernel) {
  constexpr int64_t kLanesOfMany = 16, kMostRows = 128;
  const VectorISA &isa = machine.isa;
  int64_t bytes = getWeightBytes(op, kernel);
  // Of rows that sixteen registers keep, both elements of a pair.
  bool hasPairs =
      kernel == CPUKernel::Fma && anyTerm(op, [](const Matmul::Term &term) {
        return getPanelPair(getWeightType(term)) > 1;
      });
  int64_t tileRows = isa.lanes == kLanesOfMany ? 12
                     : hasPairs                ? 2
                                               : isa.tileRows;
  int64_t tileColumns = kPanelColumns / isa.lanes;
  int64_t step = (kernel == CPUKernel::Bf16Dot ? 2 : 1) * isa.lanes;
  int64_t blockSum =
      choosePanelPart(getPanelPartBytes(machine, tileRows), bytes, step);
  int64_t rowBytes = getLongestSum(op, getStretch(blockSum, bytes)) * bytes;
  return CPUMatmulAttr::get(
      op.getContext(), tileRows, tileColumns,
      llvm::alignTo(std::min(machine.l2Bytes / 2 / rowBytes, kMostRows),
                    tileRows),
      chooseBlockColumns(op, 2 * kPanelColumns), blockSum, isa.lanes, kernel);
}

static CPUMatmulAttr chooseConfig(Matmul op, const CPUMachine &machine) {
  const VectorISA &isa = machine.isa;
  if (isa.amx && findAMXObstacle(op).empty())
    return chooseAMXConfig(op, machine);
  CPUKernel kernel = multipliesBf16(op) ? isa.kernel : CPUKernel::Fma;
  if (hasPanels(op))
    return choosePackedConfig(op, machine, kernel);
  int64_t bytes = getWeightBytes(op, kernel);
  int64_t tileRows = isa.tileRows, tileColumns = isa.tileColumns;
  if (isRouterLike(op) && !hasColumns(op) && isa.lanes == 16) {
    // As many sums, and two tiles to a vector of columns: four tasks for 64
    // experts, all alike.
    tileRows = 3;
    tileColumns = 8;
  }
  // The weights of a tile take half of the first cache.
  int64_t tileBytes = machine.l1Bytes / 2;
  int64_t width = std::lcm(tileColumns, isa.lanes);
  if (hasPrologue(op)) {
    // Rows are computed for four times as many columns, from a panel that is as
    // much shorter.
    tileBytes /= 4;
    width *= 4;
  }
  int64_t step = (kernel == CPUKernel::Bf16Dot ? 2 : 1) * isa.lanes;
  constexpr int64_t kMostRows = 128;
  int64_t blockSum = alignToStep(tileBytes / (bytes * isa.tileColumns), step);
  auto config = CPUMatmulAttr::get(
      op.getContext(), tileRows, tileColumns,
      chooseBlockRows(machine, blockSum * bytes, tileRows, kMostRows),
      chooseBlockColumns(op, width), blockSum, isa.lanes, kernel);
  return hasColumns(op) ? widenBlocks(op, config, machine) : config;
}

/// What was chosen, and what it follows from.
static std::string explain(Matmul op, CPUMatmulAttr config,
                           const CPUMachine &machine) {
  auto kib = [](int64_t bytes) { return std::to_string(bytes / 1024) + " KB"; };
  std::string text;
  llvm::raw_string_ostream os(text);
  os << config << ": ";
  if (config.usesAMX()) {
    const char *what = hasPanels(op) ? " rows share packed weights"
                       : hasColumns(op)
                           ? " rows share turned weights"
                           : " rows are turned for each block of columns";
    os << "AMX's tiles; up to " << config.getBlockRows() << what
       << ", in the second cache of " << kib(machine.l2Bytes);
    return text;
  }
  int64_t rowBytes =
      config.getBlockSum() * getWeightBytes(op, config.getKernel());
  os << machine.isaName << " has registers for " << config.getTileRows()
     << " x " << config.getTileColumns() << " sums; ";
  if (hasPanels(op))
    os << "weights are packed; a part of a panel takes "
       << kib(kPanelColumns * rowBytes) << " of the "
       << (isTall(config.getTileRows())
               ? "second cache of " + kib(machine.l2Bytes)
               : "first cache of " + kib(machine.l1Bytes));
  else if (hasColumns(op))
    os << "weights run along n, so parts of k are short and a tile's panel "
          "takes half of the first cache of "
       << kib(machine.l1Bytes);
  else
    os << "a tile's weights take " << kib(config.getTileColumns() * rowBytes)
       << " of the first cache of " << kib(machine.l1Bytes)
       << ", a block's rows up to " << kib(config.getBlockRows() * rowBytes)
       << " of the second of " << kib(machine.l2Bytes);
  return text;
}

namespace {
struct SelectCPUStrategyPass
    : moe::impl::MoESelectCPUStrategyBase<SelectCPUStrategyPass> {
  using Base::Base;

  void runOnOperation() override {
    FailureOr<CPUMachine> machine = describeCPU(getOperation(), isa);
    if (failed(machine))
      return signalPassFailure();
    WalkResult result = getOperation()->walk([&](Operation *op) {
      if (auto matmul = dyn_cast<Matmul>(op))
        return WalkResult(select(matmul, *machine));
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

  LogicalResult select(Matmul op, const CPUMachine &machine) {
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
    CPUMatmulAttr config = chooseConfig(op, machine);
    op->setAttr(LoweringConfigInterface::kName, config);
    remark::passed(op.getLoc(), options) << explain(op, config, machine);
    return success();
  }
};
} // namespace
