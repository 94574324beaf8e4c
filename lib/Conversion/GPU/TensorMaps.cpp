//===- TensorMaps.cpp - What a kernel copies by TMA -----------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TensorMaps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

//===----------------------------------------------------------------------===//
// Plan
//===----------------------------------------------------------------------===//

/// Of `dims`, those that the access depends on: a stride of 0 has no map.
static TensorMap makeMap(
    const LinearAccess &access,
    ArrayRef<std::tuple<unsigned, /*size=*/int64_t, /*box=*/int64_t>> dims) {
  TensorMap map;
  map.access = access;
  for (auto [dim, size, box] : dims) {
    if (!access.dependsOn(dim))
      continue;
    map.dims.push_back(dim);
    map.sizes.push_back(size);
    map.box.push_back(box);
  }
  return map;
}

/// Columns from the first one of `map` to the first one of `weight`; empty if
/// `weight` is not in the same rows.
static std::optional<int64_t> findColumn(const TensorMap &map,
                                         const LinearAccess &weight) {
  int64_t apart = weight.constant - map.access.constant;
  int64_t step = weight.coefficients[Matmul::kColumn];
  if (map.access.buffer != weight.buffer ||
      map.access.coefficients != weight.coefficients || apart < 0 ||
      step == 0 || apart % step != 0)
    return std::nullopt;
  return apart / step;
}

static TensorMap makeWeightMap(const MatmulProblem &problem,
                               GPUWgmmaAttr config,
                               const LinearAccess &weight) {
  constexpr int64_t kDynamic = ShapedType::kDynamic;
  int64_t columns = problem.getWeightColumns(problem.numColumns);
  int64_t length = problem.length;
  int64_t step = config.getTileSum();
  if (problem.sumIsLast)
    return makeMap(weight, {{Matmul::kExpert, kDynamic, 1},
                            {Matmul::kColumn, columns, config.getTileColumns()},
                            {Matmul::kSum, length, step}});
  return makeMap(weight, {{Matmul::kExpert, kDynamic, 1},
                          {Matmul::kSum, length, step},
                          {Matmul::kColumn, columns, kPanelColumns}});
}

MatmulMaps mlir::moe::planTensorMaps(const MatmulProblem &problem,
                                     GPUWgmmaAttr config) {
  MatmulMaps plan;
  if (!problem.isGathered) {
    plan.rows = 0;
    plan.maps.push_back(
        makeMap(problem.rows,
                {{Matmul::kRow, ShapedType::kDynamic, config.getTileRows()},
                 {Matmul::kSum, problem.length, config.getTileSum()}}));
  }
  for (const LinearAccess &weight : problem.weights) {
    size_t first = plan.rows ? 1 : 0;
    MatmulMaps::Weight place = {static_cast<unsigned>(plan.maps.size()), 0};
    for (size_t i = first; i < plan.maps.size(); ++i)
      if (auto column = findColumn(plan.maps[i], weight)) {
        place = {static_cast<unsigned>(i), *column};
        break;
      }
    if (place.map == plan.maps.size())
      plan.maps.push_back(makeWeightMap(problem, config, weight));
    TensorMap &map = plan.maps[place.map];
    for (auto [dim, size] : llvm::zip(map.dims, map.sizes))
      if (dim == Matmul::kColumn)
        size = std::max(size, place.firstColumn +
                                  problem.getWeightColumns(problem.numColumns));
    plan.weights.push_back(place);
  }
  return plan;
}

//===----------------------------------------------------------------------===//
// Host
//===----------------------------------------------------------------------===//

Value mlir::moe::buildTensorMap(ImplicitLocOpBuilder &b, const TensorMap &map,
                                Value numRows, Value numExperts) {
  MLIRContext *context = b.getContext();
  Type element = map.access.getElementType();
  SmallVector<OpFoldResult> sizes, strides;
  SmallVector<Value> box;
  for (auto [i, dim] : llvm::enumerate(map.dims)) {
    if (!ShapedType::isDynamic(map.sizes[i]))
      sizes.push_back(b.getIndexAttr(map.sizes[i]));
    else
      sizes.push_back(
          getAsOpFoldResult(dim == Matmul::kRow ? numRows : numExperts));
    strides.push_back(b.getIndexAttr(map.access.coefficients[dim]));
    box.push_back(arith::ConstantIndexOp::create(b, map.box[i]));
  }
  Value view = memref::ReinterpretCastOp::create(
      b, map.access.buffer, b.getIndexAttr(map.access.constant), sizes,
      strides);
  auto space = cast<MemRefType>(view.getType()).getMemorySpace();
  Value unranked =
      memref::CastOp::create(b, UnrankedMemRefType::get(element, space), view);
  auto shared = MemRefType::get(map.box, element, MemRefLayoutAttrInterface(),
                                b.getI64IntegerAttr(3));
  auto type = nvgpu::TensorMapDescriptorType::get(
      context, shared, nvgpu::TensorMapSwizzleKind::SWIZZLE_128B,
      nvgpu::TensorMapL2PromoKind::L2PROMO_256B,
      nvgpu::TensorMapOOBKind::OOB_ZERO,
      nvgpu::TensorMapInterleaveKind::INTERLEAVE_NONE);
  return nvgpu::TmaCreateDescriptorOp::create(b, type, unranked, box);
}
