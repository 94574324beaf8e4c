//===- MatmulLaunch.cpp - A grouped matmul's kernel and launch ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MatmulLaunch.h"

#include "MmaSyncKernel.h"
#include "PermuteKernel.h"
#include "WgmmaKernel.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "moe/Conversion/LaunchAttributes.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

static Value buildSize(ImplicitLocOpBuilder &b, Value buffer, int64_t dim) {
  return b.createOrFold<memref::DimOp>(buffer, dim);
}

static Value buildConstant(ImplicitLocOpBuilder &b, int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

//===----------------------------------------------------------------------===//
// Sizes and parameters
//===----------------------------------------------------------------------===//

namespace {
/// Sizes that the host knows when it launches (index).
struct HostSizes {
  Value numRows, numExperts;
};
} // namespace

static HostSizes buildSizes(ImplicitLocOpBuilder &b,
                            const MatmulProblem &problem) {
  return {buildSize(b, problem.results[0].buffer, 0),
          b.createOrFold<arith::SubIOp>(buildSize(b, problem.offsets, 0),
                                        buildConstant(b, 1))};
}

/// What kernels read and write by pointers, apart from rows and weights.
static void addOthers(const MatmulProblem &problem,
                      KernelParameters &parameters) {
  for (const LinearAccess &extra : problem.extras)
    parameters.addBuffer(extra.buffer);
  for (const LinearAccess &result : problem.results)
    parameters.addBuffer(result.buffer);
  for (Value scalar : problem.scalars)
    parameters.addScalar(scalar);
}

static void addOffsets(const MatmulProblem &problem,
                       KernelParameters &parameters) {
  parameters.addBuffer(problem.offsets);
  if (problem.readsSource())
    parameters.addBuffer(problem.source);
}

namespace {
/// The number of experts in a kernel: a constant, or its last parameter.
class NumExperts {
public:
  NumExperts(ImplicitLocOpBuilder &b, const MatmulProblem &problem,
             Value numExperts, KernelParameters &parameters)
      : constant(Matmul(problem.op).getNumExperts()) {
    if (!ShapedType::isDynamic(constant))
      return;
    parameter =
        arith::IndexCastOp::create(b, b.getI32Type(), numExperts).getResult();
    parameters.addScalar(parameter);
  }

  Value get(KernelBuilder &b, const IRMapping &toDevice) const {
    return parameter ? toDevice.lookup(parameter) : b.i32(constant);
  }

private:
  int64_t constant;
  Value parameter;
};
} // namespace

/// A block a tile, and at least one: an expert adds at most one tile of rows
/// that is not full, and none if it has no rows.
template <typename Config>
static Value buildNumBlocks(ImplicitLocOpBuilder &b,
                            const MatmulProblem &problem, Config config,
                            const HostSizes &sizes) {
  Value full = arith::DivUIOp::create(b, sizes.numRows,
                                      buildConstant(b, config.getTileRows()));
  Value bound = arith::MinUIOp::create(
      b, sizes.numRows, arith::AddIOp::create(b, full, sizes.numExperts));
  int64_t columnTiles =
      llvm::divideCeil(problem.numColumns, config.getTileColumns());
  Value blocks = arith::MulIOp::create(b, bound, buildConstant(b, columnTiles));
  return arith::MaxUIOp::create(b, blocks, buildConstant(b, 1));
}

//===----------------------------------------------------------------------===//
// Permuted rows
//===----------------------------------------------------------------------===//

/// Launches a kernel that stores the rows in the order of the experts, as the
/// prologue makes them.
static MatmulProblem permuteRows(const MatmulProblem &problem,
                                 KernelModule &kernels) {
  Matmul op = problem.op;
  ImplicitLocOpBuilder b(op.getLoc(), op);
  HostSizes sizes = buildSizes(b, problem);
  auto type =
      MemRefType::get({op.getNumRows(), problem.length}, problem.elementType);
  Value rows = memref::AllocOp::create(
      b, type, type.isDynamicDim(0) ? ValueRange(sizes.numRows) : ValueRange());
  KernelParameters parameters;
  parameters.addBuffer(problem.offsets);
  if (permuteReadsSource(problem))
    parameters.addBuffer(problem.source);
  parameters.addBuffer(problem.rows.buffer);
  for (Value extra : problem.prologue.extras)
    parameters.addBuffer(extra);
  parameters.addBuffer(rows);
  for (Value scalar : problem.prologue.scalars)
    parameters.addScalar(scalar);
  NumExperts numExperts(b, problem, sizes.numExperts, parameters);
  SymbolRefAttr kernel = kernels.addKernel(
      op, "permute", kPermuteThreads, parameters,
      [&](KernelBuilder &b, const IRMapping &toDevice, Value) {
        buildPermuteKernel(b, problem, rows, toDevice,
                           numExperts.get(b, toDevice));
      });
  Value blocks = arith::MulIOp::create(
      b, sizes.numRows, buildConstant(b, getPermuteBlocks(problem)));
  blocks = arith::MaxUIOp::create(b, blocks, buildConstant(b, 1));
  buildLaunch(b, kernel, blocks, kPermuteThreads, /*sharedBytes=*/0,
              parameters);
  return withStoredRows(problem, rows);
}

//===----------------------------------------------------------------------===//
// mma.sync
//===----------------------------------------------------------------------===//

static void build(const MatmulProblem &problem, GPUMatmulAttr config,
                  KernelModule &kernels) {
  Matmul op = problem.op;
  ImplicitLocOpBuilder b(op.getLoc(), op);
  HostSizes sizes = buildSizes(b, problem);
  KernelParameters parameters;
  addOffsets(problem, parameters);
  parameters.addBuffer(problem.rows.buffer);
  for (const LinearAccess &weight : problem.weights)
    parameters.addBuffer(weight.buffer);
  addOthers(problem, parameters);
  NumExperts numExperts(b, problem, sizes.numExperts, parameters);
  SymbolRefAttr kernel = kernels.addKernel(
      op, "matmul", config.getNumThreads(), parameters,
      [&](KernelBuilder &b, const IRMapping &toDevice, Value shared) {
        buildMmaSyncKernel(b, problem, config, toDevice,
                           numExperts.get(b, toDevice), shared);
      });
  buildLaunch(b, kernel, buildNumBlocks(b, problem, config, sizes),
              config.getNumThreads(), getSharedBytes(problem, config),
              parameters);
}

//===----------------------------------------------------------------------===//
// wgmma
//===----------------------------------------------------------------------===//

/// True if there are rows and experts: a tensor of no elements has no map. Null
/// if that is known.
static Value buildIsAny(ImplicitLocOpBuilder &b, const HostSizes &sizes) {
  Value result;
  for (Value size : {sizes.numRows, sizes.numExperts}) {
    if (getConstantIntValue(size).value_or(0) > 0)
      continue;
    Value some = arith::CmpIOp::create(b, arith::CmpIPredicate::ne, size,
                                       buildConstant(b, 0));
    result = result ? arith::AndIOp::create(b, result, some).getResult() : some;
  }
  return result;
}

static void build(const MatmulProblem &problem, GPUWgmmaAttr config,
                  KernelModule &kernels) {
  Matmul op = problem.op;
  ImplicitLocOpBuilder b(op.getLoc(), op);
  HostSizes sizes = buildSizes(b, problem);
  if (Value any = buildIsAny(b, sizes))
    b.setInsertionPointToStart(
        scf::IfOp::create(b, any, /*withElseRegion=*/false).thenBlock());

  MatmulMaps plan = planTensorMaps(problem, config);
  KernelParameters parameters;
  SmallVector<Value> maps;
  for (const TensorMap &map : plan.maps) {
    maps.push_back(buildTensorMap(b, map, sizes.numRows, sizes.numExperts));
    parameters.addTensorMap(maps.back());
  }
  addOffsets(problem, parameters);
  if (!plan.rows)
    parameters.addBuffer(problem.rows.buffer);
  addOthers(problem, parameters);
  NumExperts numExperts(b, problem, sizes.numExperts, parameters);
  SymbolRefAttr kernel = kernels.addKernel(
      op, "matmul", config.getNumThreads(), parameters,
      [&](KernelBuilder &b, const IRMapping &toDevice, Value shared) {
        auto onDevice = llvm::map_to_vector(
            maps, [&](Value map) { return toDevice.lookup(map); });
        buildWgmmaKernel(b, problem, config, plan, toDevice, onDevice,
                         numExperts.get(b, toDevice), shared);
      });
  gpu::LaunchFuncOp launch = buildLaunch(
      b, kernel, buildNumBlocks(b, problem, config, sizes),
      config.getNumThreads(), getSharedBytes(problem, config), parameters);
  launch->setAttr(kBlocksPerMultiprocessor, b.getI64IntegerAttr(1));
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

template <typename Config>
static LogicalResult lower(Matmul op, Config config, KernelModule &kernels) {
  StringRef name = Config::getMnemonic();
  llvm::Expected<MatmulProblem> problem = analyzeMatmul(op);
  if (!problem)
    return op.emitOpError("has a ") << name << ", but no kernel can do it: "
                                    << llvm::toString(problem.takeError());
  if (llvm::Error error = checkConfig(*problem, config))
    return op.emitOpError("cannot use its ")
           << name << ": " << llvm::toString(std::move(error));
  build(config.getPermuted() ? permuteRows(*problem, kernels) : *problem,
        config, kernels);
  op.erase();
  return success();
}

LogicalResult mlir::moe::lowerMatmul(Matmul op, GPUMatmulAttr config,
                                     KernelModule &kernels) {
  return lower(op, config, kernels);
}

LogicalResult mlir::moe::lowerMatmul(Matmul op, GPUWgmmaAttr config,
                                     KernelModule &kernels) {
  return lower(op, config, kernels);
}
