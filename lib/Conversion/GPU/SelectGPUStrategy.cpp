//===- SelectGPUStrategy.cpp - How a grouped matmul runs on a GPU ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelModule.h"
#include "MatmulProblem.h"
#include "TensorMaps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/Remarks.h"
#include "moe/Conversion/Passes.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FormatVariadic.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESELECTGPUSTRATEGY
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// Shared memory that a block may have, in KiB: CUDA's "maximum amount of
/// shared memory per thread block" of each compute capability.
static std::optional<int64_t> findSharedKiB(StringRef chip) {
  return llvm::StringSwitch<std::optional<int64_t>>(chip)
      .Case("sm_80", 163)
      .Cases({"sm_86", "sm_89", "sm_120"}, 99)
      .Cases({"sm_90", "sm_90a"}, 227)
      .Default(std::nullopt);
}

/// The chip whose instructions #moe.gpu_wgmma is for: those of an "a" chip are
/// on no other.
static constexpr StringLiteral kWgmmaChip = "sm_90a";

/// Rows of an expert, as far as shapes tell; empty if they do not.
static std::optional<int64_t> findRowsPerExpert(Matmul op) {
  int64_t numRows = op.getNumRows(), numExperts = op.getNumExperts();
  if (ShapedType::isDynamic(numRows) || ShapedType::isDynamic(numExperts))
    return std::nullopt;
  return llvm::divideCeil(numRows, std::max<int64_t>(numExperts, 1));
}

/// Whether rows are stored in the order of the experts by a kernel before. What
/// is gathered on the way to shared memory saves writing and reading them once
/// more; a prologue cannot run on that way.
static bool mustPermute(const MatmulProblem &problem) {
  return static_cast<bool>(problem.prologue);
}

/// Whether so many columns read the rows that it pays to gather them once, in
/// a persistent kernel for many rows. A kernel before reads and writes 4 · K
/// bytes a row, beside 2 · K FLOPs for each column: with 200 FLOPs for each
/// byte of memory (H100, H200), one twentieth of the time from here on.
/// Gathering is repeated for each tile of columns.
static bool shouldPermute(const MatmulProblem &problem) {
  constexpr int64_t kManyColumns = 8192;
  return problem.isGathered &&
         problem.getNumProducts() * problem.numColumns >= kManyColumns;
}

/// 128 rows by 256 columns of all products together. Where an expert has few
/// rows, weights are all that moves, and become the side of 64: 128 columns of
/// each product, and as many rows as an expert may have.
static GPUWgmmaAttr chooseWgmma(const MatmulProblem &problem,
                                int64_t sharedBytes) {
  int64_t numProducts = problem.getNumProducts();
  Matmul op = problem.op;
  int64_t panel = kPanelColumns / problem.getColumnRatio();
  int64_t rows = 128, unit = problem.sumIsLast ? 8 : panel;
  int64_t columns = llvm::alignDown(256 / numProducts, unit), groups = 2;
  columns = std::min<int64_t>(columns, llvm::alignTo(problem.numColumns, unit));
  int64_t perExpert = findRowsPerExpert(op).value_or(INT64_MAX);
  bool swapped = perExpert <= 32;
  bool permuted = mustPermute(problem) || (!swapped && shouldPermute(problem));
  if (swapped) {
    rows = perExpert <= 4 ? 16 : perExpert <= 16 ? 32 : 64;
    groups = problem.numColumns <= 64 ? 1 : 2;
    columns = 64 * groups;
  }
  if (columns == 0)
    return GPUWgmmaAttr();
  constexpr int64_t kTileSum = 64, kMaxStages = 8;
  for (int64_t stages = kMaxStages; stages >= 2; --stages) {
    auto config = GPUWgmmaAttr::get(op.getContext(), rows, columns, kTileSum,
                                    groups, stages, swapped, permuted);
    if (getSharedBytes(problem, config) > sharedBytes)
      continue;
    if (!llvm::errorToBool(checkConfig(problem, config)))
      return config;
    break;
  }
  return GPUWgmmaAttr();
}

/// A tile of 128 × 128 sums of all products for many rows of an expert; of 16
/// rows where shapes tell that an expert has few, as then weights are all that
/// moves and several blocks share a multiprocessor.
static GPUMatmulAttr chooseMmaSync(const MatmulProblem &problem,
                                   int64_t sharedBytes) {
  int64_t numProducts = problem.getNumProducts();
  Matmul op = problem.op;
  MLIRContext *context = op.getContext();
  bool fewRows = findRowsPerExpert(op).value_or(INT64_MAX) <= 16;
  // Panels of a weight with n last are as wide as a row.
  int64_t panel = problem.getRowElements() / problem.getColumnRatio();
  int64_t minColumns = problem.sumIsLast ? 32 : panel;
  int64_t columns = numProducts == 1 ? 128 : numProducts == 2 ? 64 : minColumns;
  if (problem.numColumns <= 64)
    columns = std::min<int64_t>(columns, 64);
  int64_t rows = fewRows ? 16 : 128, warpRows = fewRows ? 1 : 2;
  int64_t warpColumns = std::min<int64_t>(4, columns / 16);
  if (!fewRows)
    warpRows = 8 / warpColumns;
  bool permuted = mustPermute(problem);
  constexpr int64_t kMaxStages = 4;
  for (int64_t stages = kMaxStages; stages >= 2; --stages) {
    auto config =
        GPUMatmulAttr::get(context, rows, columns, problem.getRowElements(),
                           warpRows, warpColumns, stages, permuted);
    if (getSharedBytes(problem, config) <= sharedBytes)
      return config;
  }
  return GPUMatmulAttr();
}

namespace {
struct SelectGPUStrategyPass
    : moe::impl::MoESelectGPUStrategyBase<SelectGPUStrategyPass> {
  using Base::Base;

  void runOnOperation() override {
    std::optional<int64_t> sharedKiB = findSharedKiB(chip);
    if (!sharedKiB) {
      getOperation()->emitError("moe-select-gpu-strategy: unknown chip '")
          << chip << "'; use sm_80, sm_86, sm_89, sm_90, sm_90a or sm_120";
      return signalPassFailure();
    }
    auto result = getOperation()->walk(
        [&](Matmul op) { return WalkResult(select(op, *sharedKiB * 1024)); });
    if (result.wasInterrupted())
      return signalPassFailure();
    getOperation()->walk(decideMerging);
  }

  /// Kernels of few tokens are short: starting and ending them is what counts.
  static void decideMerging(func::FuncOp function) {
    constexpr int64_t kFewTokens = 16;
    bool hasCombine = false, isFew = true;
    function.walk([&](CombineOp op) {
      int64_t tokens = cast<ShapedType>(op.getSlots().getType()).getDimSize(0);
      hasCombine = true;
      isFew &= !ShapedType::isDynamic(tokens) && tokens <= kFewTokens;
    });
    if (hasCombine && isFew && !function->hasAttr(kMergeLaunches))
      function->setAttr(kMergeLaunches, Builder(function).getBoolAttr(true));
  }

  remark::RemarkOpts remarkOptions() {
    return remark::RemarkOpts::name("gpu-strategy").category(getName());
  }

  void decline(Matmul op, const llvm::Twine &why) {
    op->removeAttr(GPUMatmulAttr::kName);
    remark::missed(op.getLoc(), remarkOptions()) << why.str();
  }

  LogicalResult select(Matmul op, int64_t sharedBytes) {
    llvm::Expected<MatmulProblem> problem = analyzeMatmul(op);
    if (!problem) {
      decline(op, llvm::toString(problem.takeError()));
      return success();
    }
    Attribute pinned = op->getAttr(GPUMatmulAttr::kName);
    if (auto config = dyn_cast_or_null<GPUMatmulAttr>(pinned))
      return checkPinned(*problem, config, sharedBytes);
    if (auto config = dyn_cast_or_null<GPUWgmmaAttr>(pinned)) {
      if (chip == kWgmmaChip)
        return checkPinned(*problem, config, sharedBytes);
      return op.emitOpError("cannot use its gpu_wgmma: ")
             << chip << " has no wgmma; compile for " << kWgmmaChip
             << ", or take a gpu_matmul";
    }
    if (chip == kWgmmaChip)
      if (GPUWgmmaAttr config = chooseWgmma(*problem, sharedBytes))
        return take(*problem, config);
    GPUMatmulAttr config = chooseMmaSync(*problem, sharedBytes);
    if (!config) {
      decline(op, "the operands of a step need more shared memory than there "
                  "is; split the products into several ops");
      return success();
    }
    if (llvm::Error error = checkConfig(*problem, config)) {
      decline(op, llvm::toString(std::move(error)) +
                      " (split the products into several ops)");
      return success();
    }
    return take(*problem, config);
  }

  LogicalResult take(const MatmulProblem &problem, Attribute config) {
    Matmul op = problem.op;
    op->setAttr(GPUMatmulAttr::kName, config);
    std::string text;
    llvm::raw_string_ostream stream(text);
    stream << config;
    if (mustPermute(problem))
      stream << "; rows are permuted first, as a prologue computes them";
    else if (auto wgmma = dyn_cast<GPUWgmmaAttr>(config);
             wgmma && wgmma.getPermuted())
      stream << "; rows are permuted first, as many columns read them";
    remark::passed(op.getLoc(), remarkOptions()) << text;
    return success();
  }

  /// What a user asked for is done or refused, never changed.
  template <typename Config>
  LogicalResult checkPinned(const MatmulProblem &problem, Config config,
                            int64_t sharedBytes) {
    Matmul op = problem.op;
    StringRef name = Config::getMnemonic();
    if (llvm::Error error = checkConfig(problem, config))
      return op.emitOpError("cannot use its ")
             << name << ": " << llvm::toString(std::move(error));
    int64_t needed = getSharedBytes(problem, config);
    if (needed > sharedBytes)
      return op.emitOpError("cannot use its ")
             << name << ": it needs " << needed << " bytes of shared memory, "
             << chip << " has " << sharedBytes
             << "; take fewer stages or a smaller tile";
    return success();
  }
};
} // namespace
