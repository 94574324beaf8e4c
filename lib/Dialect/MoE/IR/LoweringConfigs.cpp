//===- LoweringConfigs.cpp - How an op runs on a machine --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What each attribute configures, and which of its numbers go together.
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/IR/MoE.h"

using namespace mlir;
using namespace mlir::moe;

bool CPUMatmulAttr::configures(Operation *op) const {
  return isa<GroupedMatmulOp>(op);
}

bool CPURoutingAttr::configures(Operation *op) const {
  return isa<GateOp, PlanOp>(op);
}

bool GPUMatmulAttr::configures(Operation *op) const {
  return isa<GroupedMatmulOp>(op);
}

bool GPUWgmmaAttr::configures(Operation *op) const {
  return isa<GroupedMatmulOp>(op);
}

//===----------------------------------------------------------------------===//
// CPUs
//===----------------------------------------------------------------------===//

/// cpu_matmul_c3
static LogicalResult verifyAMXTile(function_ref<InFlightDiagnostic()> emitError,
                                   int64_t tileRows, int64_t tileColumns,
                                   int64_t blockColumns, int64_t lanes) {
  constexpr int64_t kTile = 16;
  if (tileRows != kTile || tileColumns != kTile)
    return emitError() << "cpu_matmul: kernel = amx has tiles of " << kTile
                       << " × " << kTile
                       << " results, got tile_rows = " << tileRows
                       << " and tile_columns = " << tileColumns
                       << "; use them, or another kernel";
  if (lanes != kTile)
    return emitError() << "cpu_matmul: kernel = amx has lanes = " << kTile
                       << ", got " << lanes << "; use it, or another kernel";
  if (blockColumns % (2 * kTile) != 0)
    return emitError() << "cpu_matmul: block_columns = " << blockColumns
                       << " is not a multiple of " << 2 * kTile
                       << ", the two tiles that kernel = amx multiplies at "
                          "once; round it up";
  return success();
}

/// cpu_matmul_c4
static LogicalResult
verifyVectorTile(function_ref<InFlightDiagnostic()> emitError, int64_t tileRows,
                 int64_t tileColumns, int64_t lanes, CPUKernel kernel) {
  constexpr int64_t kMostSums = 32, kMostDotLanes = 16;
  // Each factor first: their product may overflow.
  if (tileRows > kMostSums || tileColumns > kMostSums ||
      tileRows * tileColumns > kMostSums)
    return emitError() << "cpu_matmul: a tile of " << tileRows << " × "
                       << tileColumns << " results takes more than the "
                       << kMostSums
                       << " vector registers that a CPU has; use a smaller "
                          "one, or kernel = amx";
  if (kernel == CPUKernel::Bf16Dot && lanes > kMostDotLanes)
    return emitError() << "cpu_matmul: kernel = bf16_dot has at most "
                       << kMostDotLanes << " lanes, got " << lanes
                       << "; use fewer, or kernel = fma";
  return success();
}

LogicalResult
CPUMatmulAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                      int64_t tileRows, int64_t tileColumns, int64_t blockRows,
                      int64_t blockColumns, int64_t blockSum, int64_t lanes,
                      CPUKernel kernel) {
  for (int64_t size :
       {tileRows, tileColumns, blockRows, blockColumns, blockSum, lanes})
    if (size < 1) // cpu_matmul_c1
      return emitError() << "cpu_matmul: sizes must be at least 1, got "
                         << size;
  if (!llvm::isPowerOf2_64(lanes) || lanes < 4) // cpu_matmul_c1
    return emitError() << "cpu_matmul: lanes = " << lanes
                       << " is not a power of two from 4 on";
  if (llvm::PowerOf2Ceil(tileColumns) > static_cast<uint64_t>(lanes))
    return emitError() << "cpu_matmul: tile_columns = " << tileColumns // c1
                       << " is more than lanes = " << lanes;
  auto checkMultiple = [&](StringRef name, int64_t size,
                           int64_t factor) -> LogicalResult {
    if (size % factor == 0)
      return success();
    return emitError() << "cpu_matmul: " << name << " = " << size
                       << " is not a multiple of " << factor;
  };
  int64_t step = kernel == CPUKernel::Fma ? lanes : 2 * lanes;
  if (failed(checkMultiple("block_rows", blockRows, tileRows)) ||
      failed(checkMultiple("block_columns", blockColumns, tileColumns)) ||
      failed(checkMultiple("block_columns", blockColumns, lanes)) ||
      failed(checkMultiple("block_sum", blockSum, step)))
    return failure(); // cpu_matmul_c2
  return kernel == CPUKernel::Amx
             ? verifyAMXTile(emitError, tileRows, tileColumns, blockColumns,
                             lanes)
             : verifyVectorTile(emitError, tileRows, tileColumns, lanes,
                                kernel);
}

LogicalResult
CPURoutingAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                       int64_t blockTokens) {
  if (blockTokens < 1) // cpu_routing_c1
    return emitError() << "cpu_routing: block_tokens must be at least 1, got "
                       << blockTokens;
  return success();
}

//===----------------------------------------------------------------------===//
// GPUs
//===----------------------------------------------------------------------===//

LogicalResult
GPUMatmulAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                      int64_t tileRows, int64_t tileColumns, int64_t tileSum,
                      int64_t warpRows, int64_t warpColumns, int64_t stages,
                      bool permuted) {
  for (int64_t size :
       {tileRows, tileColumns, tileSum, warpRows, warpColumns, stages})
    if (size < 1) // gpu_matmul_c1
      return emitError() << "gpu_matmul: sizes must be at least 1, got "
                         << size;
  constexpr int64_t kMaxWarps = 32;
  // Each factor first: their product may overflow.
  bool fits = warpRows <= kMaxWarps && warpColumns <= kMaxWarps;
  int64_t warps = fits ? warpRows * warpColumns : 0;
  if (warps < 2 || warps > kMaxWarps || !llvm::isPowerOf2_64(warps))
    return emitError() << "gpu_matmul: warp_rows × warp_columns must be a "
                          "power of two from 2 to "
                       << kMaxWarps << ", got " << warpRows << " × "
                       << warpColumns; // gpu_matmul_c1
  auto checkTile = [&](StringRef name, int64_t tile,
                       int64_t warps) -> LogicalResult {
    if (tile % (16 * warps) == 0)
      return success();
    return emitError() << "gpu_matmul: tile_" << name << " = " << tile
                       << " is not a multiple of 16 · warp_" << name << " = "
                       << 16 * warps;
  };
  if (failed(checkTile("rows", tileRows, warpRows)) ||
      failed(checkTile("columns", tileColumns, warpColumns)))
    return failure();                 // gpu_matmul_c2
  if (tileSum != 64 && tileSum != 32) // gpu_matmul_c3
    return emitError() << "gpu_matmul: tile_sum must be 64, or 32 for factors "
                          "of f32, got "
                       << tileSum;
  if (stages < 2) // gpu_matmul_c4
    return emitError() << "gpu_matmul: stages must be at least 2, got "
                       << stages;
  return success();
}

LogicalResult GPUWgmmaAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                   int64_t tileRows, int64_t tileColumns,
                                   int64_t tileSum, int64_t groups,
                                   int64_t stages, bool swapped,
                                   bool permuted) {
  for (int64_t size : {tileRows, tileColumns, tileSum, groups, stages})
    if (size < 1) // gpu_wgmma_c1
      return emitError() << "gpu_wgmma: sizes must be at least 1, got " << size;
  if (groups > 2) // gpu_wgmma_c1
    return emitError() << "gpu_wgmma: groups must be 1 or 2, got " << groups;
  constexpr int64_t kMaxSide = 256;
  auto checkSide = [&](bool isRows, int64_t unit) -> LogicalResult {
    int64_t size = isRows ? tileRows : tileColumns;
    if (size % unit == 0 && size <= kMaxSide)
      return success();
    return emitError() << "gpu_wgmma: tile_" << (isRows ? "rows" : "columns")
                       << " must be a multiple of " << unit << " and at most "
                       << kMaxSide << ", got " << size;
  };
  if (failed(checkSide(/*isRows=*/!swapped, 64 * groups))) // gpu_wgmma_c2
    return failure();
  if (failed(checkSide(/*isRows=*/swapped, 8))) // gpu_wgmma_c3
    return failure();
  if (tileSum != 64) // gpu_wgmma_c4
    return emitError() << "gpu_wgmma: tile_sum must be 64, got " << tileSum;
  if (stages < 2) // gpu_wgmma_c5
    return emitError() << "gpu_wgmma: stages must be at least 2, got "
                       << stages;
  return success();
}
