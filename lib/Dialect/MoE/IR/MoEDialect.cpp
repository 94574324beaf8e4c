//===- MoEDialect.cpp - The moe dialect -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/MoE/IR/MoE.h"

#include "MoEBytecode.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Interfaces/RuntimeVerifiableOpInterface.h"
#include "mlir/Interfaces/TilingInterface.h"
#include "mlir/Transforms/InliningUtils.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

#include "moe/Dialect/MoE/IR/MoEDialect.cpp.inc"
#include "moe/Dialect/MoE/IR/MoEEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "moe/Dialect/MoE/IR/MoEAttrs.cpp.inc"

namespace {
/// Functions that hold moe ops can be inlined, and so can calls in a body.
struct MoEInlinerInterface : DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;
  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final {
    return true;
  }
  bool isLegalToInline(Region *, Region *, bool, IRMapping &) const final {
    return true;
  }
};
} // namespace

void MoEDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "moe/Dialect/MoE/IR/MoEOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "moe/Dialect/MoE/IR/MoEAttrs.cpp.inc"
      >();
  addInterfaces<MoEInlinerInterface>();
  addBytecodeInterface(this);
  declarePromisedInterfaces<linalg::AggregatedOpInterface, GateOp, DispatchOp,
                            ExpertOp, CombineOp, PlanOp, GroupedMatmulOp,
                            RouteOp>();
  declarePromisedInterfaces<bufferization::BufferizableOpInterface, GateOp,
                            DispatchOp, ExpertOp, CombineOp, PlanOp,
                            GroupedMatmulOp, RouteOp>();
  declarePromisedInterfaces<RuntimeVerifiableOpInterface, GateOp, DispatchOp,
                            ExpertOp, CombineOp, PlanOp, GroupedMatmulOp,
                            RouteOp>();
  declarePromisedInterfaces<TilingInterface, GateOp, CombineOp,
                            GroupedMatmulOp>();
}

/// argument_c3
static LogicalResult verifyText(Operation *op, const Twine &holder,
                                NamedAttribute attribute) {
  auto text = dyn_cast<StringAttr>(attribute.getValue());
  if (text && !text.empty())
    return success();
  return op->emitOpError(holder)
         << ": '" << attribute.getName().getValue()
         << "' must be a non-empty string, got " << attribute.getValue();
}

LogicalResult MoEDialect::verifyRegionArgAttribute(Operation *op, unsigned,
                                                   unsigned argIndex,
                                                   NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name != "moe.param" && name != "moe.name") // argument_c1
    return op->emitOpError("argument ")
           << argIndex << " has the unknown attribute '" << name
           << "'; the moe dialect has 'moe.param' and 'moe.name'";
  return verifyText(op, "argument " + Twine(argIndex), attribute);
}

LogicalResult MoEDialect::verifyRegionResultAttribute(
    Operation *op, unsigned, unsigned resultIndex, NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name != "moe.name") // argument_c2
    return op->emitOpError("result ")
           << resultIndex << " has the unknown attribute '" << name
           << "'; for results the moe dialect has 'moe.name'";
  return verifyText(op, "result " + Twine(resultIndex), attribute);
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

LogicalResult
CPUMatmulAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                      int64_t tileRows, int64_t tileColumns, int64_t blockRows,
                      int64_t blockColumns, int64_t blockSum, int64_t lanes,
                      bool bf16Dot) {
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
  if (failed(checkMultiple("block_rows", blockRows, tileRows)) ||
      failed(checkMultiple("block_columns", blockColumns, tileColumns)) ||
      failed(checkMultiple("block_columns", blockColumns, lanes)))
    return failure(); // cpu_matmul_c2
  return checkMultiple("block_sum", blockSum, bf16Dot ? 2 * lanes : lanes);
}

LogicalResult
GPUMatmulAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                      int64_t tileRows, int64_t tileColumns, int64_t tileSum,
                      int64_t warpRows, int64_t warpColumns, int64_t stages) {
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
                                   int64_t stages, bool swapped) {
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

LogicalResult GroupsAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 int64_t count, int64_t keep, GroupScore,
                                 GroupMask) {
  if (count < 1) // groups_c1
    return emitError() << "groups: count must be at least 1, got " << count;
  if (keep < 1 || keep > count) // groups_c2
    return emitError() << "groups: keep must be between 1 and count = " << count
                       << ", got " << keep;
  return success();
}

LogicalResult
RenormalizeAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                        FloatAttr eps, EpsMode) {
  if (!eps)
    return success();
  if (!eps.getType().isF32()) // renormalize_c1
    return emitError() << "renormalize: eps must be an f32, got "
                       << eps.getType() << "; write 'eps = 1.0e-20 : f32'";
  if (!eps.getValue().isFinite() || eps.getValue().isNegative())
    return emitError()
           << "renormalize: eps must be finite and not negative, got " << eps;
  return success();
}

APFloat RenormalizeAttr::getEpsilon() const {
  return getEps() ? getEps().getValue() : APFloat(0.0f);
}
