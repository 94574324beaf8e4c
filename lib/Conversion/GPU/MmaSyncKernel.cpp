//===- MmaSyncKernel.cpp - Grouped matmuls for sm_80 and later ------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For each tile of its block:
//
//   global ──cp.async──▶ shared: stages of (rows, weight 0, weight 1, …)
//                          │ ldmatrix
//                        registers ──mma.sync──▶ sums ──epilogue──▶ global
//                                   (WarpMatmul.h)
//
// In step k of the main loop a block waits for the copies of stage k, starts
// those of stage k + stages − 1, and multiplies stage k. One barrier a step
// does both: the copies of all threads are seen, and the stage that is written
// next is no longer read. Rows come from where the tokens are: a thread keeps
// the pointers of the pieces it copies, and rows beyond the expert's are zeros.
//
//===----------------------------------------------------------------------===//

#include "MmaSyncKernel.h"

#include "MatmulEpilogue.h"
#include "TileCopy.h"
#include "TileSearch.h"
#include "WarpMatmul.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {

class MmaSyncKernel {
public:
  MmaSyncKernel(KernelBuilder &b, const MatmulProblem &problem,
                GPUMatmulAttr config, const IRMapping &toDevice, Value shared)
      : b(b), problem(problem), config(config), toDevice(toDevice),
        shared(shared), epilogue(b, problem, toDevice),
        pieceElements(problem.getPieceElements()),
        numSteps(llvm::divideCeil(problem.length, config.getTileSum())),
        thread(b.threadId()), warp(b, problem, config, thread) {}

  void build(Value numExperts) {
    // Of few sums, ptxas would rather spill (sm_90a) than have fewer blocks on
    // a multiprocessor than registers allow; shared memory allows fewer anyway.
    constexpr int64_t kFewSums = 16;
    if (problem.elementType.isF32() && warp.getNumSums() <= kFewSums)
      b.getBlock()->getParentOp()->setAttr(
          NVVM::NVVMDialect::getMinctasmAttrName(), b.getI32IntegerAttr(1));
    TileSearch search(b, toDevice.lookup(problem.offsets), numExperts,
                      b.rem(thread, kWarpSize), config.getTileRows(),
                      config.getTileColumns(), problem.numColumns);
    b.loop(b.blockId(), search.getNumTiles(), b.numBlocks(), ValueRange(),
           [&](Value number, ValueRange) -> SmallVector<Value> {
             Tile tile = search.find(number);
             storeSums(tile, buildSums(tile));
             // The next tile's copies overwrite what this one's last steps
             // read.
             b.barrier();
             return {};
           });
  }

private:
  KernelBuilder &b;
  const MatmulProblem &problem;
  GPUMatmulAttr config;
  const IRMapping &toDevice;
  Value shared;
  MatmulEpilogue epilogue;
  int64_t pieceElements, numSteps;
  Value thread;
  WarpMatmul warp;

  //===--------------------------------------------------------------------===//
  // Shared memory
  //===--------------------------------------------------------------------===//

  Value stage(Value number) {
    return b.advance(shared, b.mul(number, warp.getStageBytes()));
  }
  Value nextStage(Value number) {
    Value next = b.add(number, 1);
    return b.select(b.equal(next, config.getStages()), b.i32(0), next);
  }

  //===--------------------------------------------------------------------===//
  // Copies
  //===--------------------------------------------------------------------===//

  /// A pointer to `access` where the dimensions have these values (i32).
  Value pointerTo(const LinearAccess &access,
                  ArrayRef<std::pair<unsigned, Value>> dims) {
    Value index = b.i64(access.constant);
    for (auto [dim, value] : dims)
      if (access.dependsOn(dim))
        index = b.add(index, b.mul(b.widen(value), access.coefficients[dim]));
    return b.element(toDevice.lookup(access.buffer), access.getElementType(),
                     index);
  }

  TileCopy copyRows(const Tile &tile) {
    Value numRows = b.sub(tile.endRow, tile.firstRow);
    auto sourceOf = [&](Value row, Value piece) -> TileCopy::Source {
      Value valid = b.less(row, numRows);
      Value at = b.add(tile.firstRow, b.select(valid, row, b.i32(0)));
      unsigned dim = Matmul::kRow;
      if (problem.isGathered) {
        dim = Matmul::kToken;
        Value place = b.element(toDevice.lookup(problem.source), b.getI32Type(),
                                b.widen(at));
        at = b.div(b.loadConstant(b.getI32Type(), place), problem.topK);
      }
      Value sum = b.mul(piece, pieceElements);
      return {pointerTo(problem.rows, {{dim, at}, {Matmul::kSum, sum}}), valid,
              sum};
    };
    return TileCopy(b, thread, config.getNumThreads(), config.getTileRows(),
                    kRowBytes, config.getTileSum(), problem.length, sourceOf);
  }

  /// Null where all tiles of columns are whole.
  Value isColumn(Value column) {
    if (problem.numColumns % config.getTileColumns() == 0)
      return Value();
    return b.less(column, problem.numColumns);
  }
  /// The same of a weight.
  Value isWeightColumn(Value column) {
    if (problem.numColumns % config.getTileColumns() == 0)
      return Value();
    return b.less(column, problem.getWeightColumns(problem.numColumns));
  }

  /// A weight with k last: a row of the tile is a column n, 128 bytes of k
  /// long.
  TileCopy copyWeightAlongSum(const Tile &tile, const LinearAccess &weight) {
    auto sourceOf = [&](Value row, Value piece) -> TileCopy::Source {
      Value column = b.add(tile.firstColumn, row);
      Value valid = isColumn(column);
      if (valid)
        column = b.select(valid, column, b.i32(0));
      Value sum = b.mul(piece, pieceElements);
      return {pointerTo(weight, {{Matmul::kExpert, tile.expert},
                                 {Matmul::kColumn, column},
                                 {Matmul::kSum, sum}}),
              valid, sum};
    };
    return TileCopy(b, thread, config.getNumThreads(), config.getTileColumns(),
                    kRowBytes, config.getTileSum(), problem.length, sourceOf);
  }

  /// A weight with n last: panels of 128 bytes of columns, each with a row for
  /// each k.
  TileCopy copyWeightAlongColumns(const Tile &tile,
                                  const LinearAccess &weight) {
    auto sourceOf = [&](Value row, Value piece) -> TileCopy::Source {
      Value sum = b.rem(row, config.getTileSum());
      Value panel = b.div(row, config.getTileSum());
      Value column =
          b.add(b.add(b.mul(tile.firstColumn, problem.getColumnRatio()),
                      b.mul(panel, problem.getRowElements())),
                b.mul(piece, pieceElements));
      Value valid = isWeightColumn(column);
      if (valid)
        column = b.select(valid, column, b.i32(0));
      return {pointerTo(weight, {{Matmul::kExpert, tile.expert},
                                 {Matmul::kColumn, column},
                                 {Matmul::kSum, sum}}),
              valid, sum};
    };
    int64_t stepBytes = weight.getElementBytes() * config.getTileSum() *
                        weight.coefficients[Matmul::kSum];
    return TileCopy(b, thread, config.getNumThreads(),
                    problem.getWeightColumns(config.getTileColumns()),
                    stepBytes, config.getTileSum(), problem.length, sourceOf,
                    problem.elementType.isF32() ? kPanelPhaseOfWords : 1);
  }

  SmallVector<TileCopy> buildCopies(const Tile &tile) {
    SmallVector<TileCopy> copies = {copyRows(tile)};
    for (const LinearAccess &weight : problem.weights)
      copies.push_back(problem.sumIsLast
                           ? copyWeightAlongSum(tile, weight)
                           : copyWeightAlongColumns(tile, weight));
    return copies;
  }

  void issue(ArrayRef<TileCopy> copies, Value stageNumber, Value step) {
    Value base = stage(stageNumber);
    copies[0].issue(base, step);
    for (auto [p, copy] : llvm::enumerate(copies.drop_front()))
      copy.issue(
          b.advance(base, warp.getRowsBytes() +
                              static_cast<int64_t>(p) * warp.getWeightBytes()),
          step);
  }

  void commit() { NVVM::CpAsyncCommitGroupOp::create(b); }

  //===--------------------------------------------------------------------===//
  // Products
  //===--------------------------------------------------------------------===//

  /// All sums of a tile.
  SmallVector<Value> buildSums(const Tile &tile) {
    SmallVector<TileCopy> copies = buildCopies(tile);
    int64_t ahead = config.getStages() - 1;
    for (int64_t step = 0; step < ahead; ++step) {
      if (step < numSteps)
        issue(copies, b.i32(step), b.i32(step));
      commit();
    }
    // Beside the sums, the loop carries the stages to read and to write.
    Value none = arith::ConstantOp::create(b, b.getF32FloatAttr(0));
    SmallVector<Value> inits = {b.i32(0), b.i32(ahead)};
    inits.append(warp.getNumSums(), none);
    auto body = [&](Value step, ValueRange carried) -> SmallVector<Value> {
      NVVM::CpAsyncWaitGroupOp::create(b, ahead - 1);
      b.barrier();
      Value next = b.add(step, ahead);
      b.onlyIf(b.less(next, numSteps),
               [&] { issue(copies, carried[1], next); });
      commit();
      SmallVector<Value> sums(carried.drop_front(2));
      warp.multiplyStage(stage(carried[0]), sums);
      sums.insert(sums.begin(), {nextStage(carried[0]), nextStage(carried[1])});
      return sums;
    };
    auto sums = b.loop(b.i32(0), b.i32(numSteps), b.i32(1), inits, body);
    return SmallVector<Value>(ArrayRef<Value>(sums).drop_front(2));
  }

  //===--------------------------------------------------------------------===//
  // Results
  //===--------------------------------------------------------------------===//

  void storeSums(const Tile &tile, ArrayRef<Value> sums) {
    Value numRows = b.sub(tile.endRow, tile.firstRow);
    for (int64_t i = 0; i < warp.getNumRowsOfLane(); ++i) {
      Value row = warp.getRow(i);
      b.onlyIf(b.less(row, numRows), [&] {
        auto at = epilogue.enterRow(tile.expert, b.add(tile.firstRow, row));
        for (int64_t pair = 0; pair < warp.getNumPairs(); ++pair) {
          Value column = b.add(tile.firstColumn, warp.getColumn(pair));
          b.onlyIf(isColumn(column), [&] {
            epilogue.storePair(at, column, warp.getPairs(sums, i, pair));
          });
        }
      });
    }
  }
};

} // namespace

void mlir::moe::buildMmaSyncKernel(KernelBuilder &b,
                                   const MatmulProblem &problem,
                                   GPUMatmulAttr config,
                                   const IRMapping &toDevice, Value numExperts,
                                   Value shared) {
  MmaSyncKernel(b, problem, config, toDevice, shared).build(numExperts);
}
