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

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {

/// What mma.sync takes: 16 × 16 rows, 16 × 8 weights.
constexpr int64_t kMmaRows = 16, kMmaColumns = 8, kMmaSum = 16;

class MmaSyncKernel {
public:
  MmaSyncKernel(KernelBuilder &b, const MatmulProblem &problem,
                GPUMatmulAttr config, const IRMapping &toDevice, Value shared)
      : b(b), problem(problem), config(config), toDevice(toDevice),
        shared(shared), epilogue(b, problem, toDevice),
        numProducts(problem.weights.size()),
        numSteps(llvm::divideCeil(problem.length, config.getTileSum())),
        rowFragments(config.getWarpTileRows() / kMmaRows),
        columnFragments(config.getWarpTileColumns() / kMmaColumns) {
    thread = b.threadId();
    lane = b.rem(thread, kWarpSize);
    Value warp = b.div(thread, kWarpSize);
    warpRow =
        b.mul(b.rem(warp, config.getWarpRows()), config.getWarpTileRows());
    warpColumn =
        b.mul(b.div(warp, config.getWarpRows()), config.getWarpTileColumns());
  }

  void build(Value numExperts) {
    TileSearch search(b, toDevice.lookup(problem.offsets), numExperts, lane,
                      config.getTileRows(), config.getTileColumns(),
                      problem.numColumns);
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
  int64_t numProducts, numSteps, rowFragments, columnFragments;
  Value thread, lane, warpRow, warpColumn;

  //===--------------------------------------------------------------------===//
  // Shared memory
  //===--------------------------------------------------------------------===//

  int64_t rowsBytes() const { return config.getTileRows() * kRowBytes; }
  int64_t weightBytes() const { return config.getTileColumns() * kRowBytes; }
  int64_t stageBytes() const {
    return rowsBytes() + numProducts * weightBytes();
  }
  Value stage(Value number) {
    return b.advance(shared, b.mul(number, stageBytes()));
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
      Value sum = b.mul(piece, kPieceElements);
      return {pointerTo(problem.rows, {{dim, at}, {Matmul::kSum, sum}}), valid,
              sum};
    };
    return TileCopy(b, thread, config.getNumThreads(), config.getTileRows(),
                    kRowBytes, problem.length, sourceOf);
  }

  /// Null where all tiles of columns are whole.
  Value isColumn(Value column) {
    if (problem.numColumns % config.getTileColumns() == 0)
      return Value();
    return b.less(column, problem.numColumns);
  }

  /// A weight with k last: a row of the tile is a column n, 64 k long.
  TileCopy copyWeightAlongSum(const Tile &tile, const LinearAccess &weight) {
    auto sourceOf = [&](Value row, Value piece) -> TileCopy::Source {
      Value column = b.add(tile.firstColumn, row);
      Value valid = isColumn(column);
      if (valid)
        column = b.select(valid, column, b.i32(0));
      Value sum = b.mul(piece, kPieceElements);
      return {pointerTo(weight, {{Matmul::kExpert, tile.expert},
                                 {Matmul::kColumn, column},
                                 {Matmul::kSum, sum}}),
              valid, sum};
    };
    return TileCopy(b, thread, config.getNumThreads(), config.getTileColumns(),
                    kRowBytes, problem.length, sourceOf);
  }

  /// A weight with n last: panels of 64 columns, each with a row for each k.
  TileCopy copyWeightAlongColumns(const Tile &tile,
                                  const LinearAccess &weight) {
    auto sourceOf = [&](Value row, Value piece) -> TileCopy::Source {
      Value sum = b.rem(row, config.getTileSum());
      Value panel = b.div(row, config.getTileSum());
      Value column = b.add(b.add(tile.firstColumn, b.mul(panel, kRowElements)),
                           b.mul(piece, kPieceElements));
      Value valid = isColumn(column);
      if (valid)
        column = b.select(valid, column, b.i32(0));
      return {pointerTo(weight, {{Matmul::kExpert, tile.expert},
                                 {Matmul::kColumn, column},
                                 {Matmul::kSum, sum}}),
              valid, sum};
    };
    int64_t stepBytes =
        2 * config.getTileSum() * weight.coefficients[Matmul::kSum];
    return TileCopy(b, thread, config.getNumThreads(), config.getTileColumns(),
                    stepBytes, problem.length, sourceOf);
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
    for (int64_t p = 0; p < numProducts; ++p)
      copies[1 + p].issue(b.advance(base, rowsBytes() + p * weightBytes()),
                          step);
  }

  void commit() { NVVM::CpAsyncCommitGroupOp::create(b); }

  //===--------------------------------------------------------------------===//
  // Products
  //===--------------------------------------------------------------------===//

  using Fragment = SmallVector<Value, 4>;

  /// Four 8 × 8 matrices; each lane names a row of one of them.
  Fragment loadMatrices(Value pointer, NVVM::MMALayout layout) {
    Type i32 = b.getI32Type();
    auto type =
        LLVM::LLVMStructType::getLiteral(b.getContext(), {i32, i32, i32, i32});
    auto shape = NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8);
    Value matrices =
        NVVM::LdMatrixOp::create(b, type, pointer, /*num=*/4, layout, shape,
                                 NVVM::LdStMatrixEltType::B16);
    Fragment fragment;
    for (int64_t i = 0; i < 4; ++i)
      fragment.push_back(toOperand(
          LLVM::ExtractValueOp::create(b, matrices, ArrayRef<int64_t>{i})));
    return fragment;
  }

  /// mma.sync takes pairs of f16 as vectors, but pairs of bf16 as i32.
  Value toOperand(Value pair) {
    if (!problem.elementType.isF16())
      return pair;
    return LLVM::BitcastOp::create(b, VectorType::get({2}, b.getF16Type()),
                                   pair);
  }

  /// Rows of the warp: lanes 0 … 15 name rows at k, lanes 16 … 31 at k + 8.
  SmallVector<Fragment> loadRows(Value base, int64_t k) {
    Value piece = b.add(b.div(lane, 16), k / kPieceElements);
    Value row = b.add(warpRow, b.rem(lane, 16));
    Value place =
        b.add(b.mul(row, kRowBytes), buildSwizzle(b, piece, b.rem(lane, 8)));
    Value pointer = b.advance(base, place);
    SmallVector<Fragment> fragments;
    for (int64_t i = 0; i < rowFragments; ++i)
      fragments.push_back(loadMatrices(
          b.advance(pointer, i * kMmaRows * kRowBytes), NVVM::MMALayout::row));
    return fragments;
  }

  /// Weights for 16 columns: the two registers of the first 8 columns, then
  /// those of the next 8, so that the operand of each mma is a pair.
  Fragment loadWeightsAlongSum(Value base, int64_t columns, int64_t k) {
    Value inColumns = b.add(b.rem(lane, 8), b.mul(b.div(lane, 16), 8));
    Value piece = b.add(b.rem(b.div(lane, 8), 2), k / kPieceElements);
    Value place = b.add(b.mul(b.add(warpColumn, inColumns), kRowBytes),
                        buildSwizzle(b, piece, b.rem(lane, 8)));
    return loadMatrices(b.advance(b.advance(base, place), columns * kRowBytes),
                        NVVM::MMALayout::row);
  }

  /// The same from panels with a row for each k, transposed on the way.
  Fragment loadWeightsAlongColumns(Value base, int64_t columns, int64_t k) {
    Value piece =
        b.add(b.add(b.div(warpColumn, kPieceElements), b.div(lane, 16)),
              columns / kPieceElements);
    Value panel = b.div(piece, kPiecesPerRow);
    Value place =
        b.add(b.add(b.mul(panel, config.getTileSum() * kRowBytes),
                    b.mul(b.rem(lane, 16), kRowBytes)),
              buildSwizzle(b, b.rem(piece, kPiecesPerRow), b.rem(lane, 8)));
    return loadMatrices(b.advance(b.advance(base, place), k * kRowBytes),
                        NVVM::MMALayout::col);
  }

  /// sums += rows · weights, four sums a lane.
  void multiply(const Fragment &rows, Value weight0, Value weight1,
                MutableArrayRef<Value> sums) {
    Type f32 = b.getF32Type();
    auto type =
        LLVM::LLVMStructType::getLiteral(b.getContext(), {f32, f32, f32, f32});
    auto factor = problem.elementType.isF16() ? NVVM::MMATypes::f16
                                              : NVVM::MMATypes::bf16;
    Value result = NVVM::MmaOp::create(
        b, type, rows, ValueRange{weight0, weight1}, ValueRange(sums),
        ArrayRef<int64_t>{kMmaRows, kMmaColumns, kMmaSum}, std::nullopt,
        std::nullopt, std::array<NVVM::MMATypes, 2>{factor, factor},
        std::array<NVVM::MMALayout, 2>{NVVM::MMALayout::row,
                                       NVVM::MMALayout::col});
    for (auto [i, sum] : llvm::enumerate(sums))
      sum = LLVM::ExtractValueOp::create(b, result, ArrayRef<int64_t>(i));
  }

  /// Where the four sums of a fragment are among all.
  int64_t indexOf(int64_t product, int64_t row, int64_t column) const {
    return 4 * ((product * rowFragments + row) * columnFragments + column);
  }

  /// Multiplies one stage.
  void multiplyStage(Value base, MutableArrayRef<Value> sums) {
    for (int64_t k = 0; k < config.getTileSum(); k += kMmaSum) {
      SmallVector<Fragment> rows = loadRows(base, k);
      for (int64_t p = 0; p < numProducts; ++p) {
        Value weights = b.advance(base, rowsBytes() + p * weightBytes());
        for (int64_t n = 0; n < columnFragments; n += 2) {
          int64_t columns = n * kMmaColumns;
          Fragment pairs = problem.sumIsLast
                               ? loadWeightsAlongSum(weights, columns, k)
                               : loadWeightsAlongColumns(weights, columns, k);
          for (int64_t half = 0; half < 2; ++half)
            for (int64_t m = 0; m < rowFragments; ++m)
              multiply(rows[m], pairs[2 * half], pairs[2 * half + 1],
                       sums.slice(indexOf(p, m, n + half), 4));
        }
      }
    }
  }

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
    inits.append(indexOf(numProducts, 0, 0), none);
    auto body = [&](Value step, ValueRange carried) -> SmallVector<Value> {
      NVVM::CpAsyncWaitGroupOp::create(b, ahead - 1);
      b.barrier();
      Value next = b.add(step, ahead);
      b.onlyIf(b.less(next, numSteps),
               [&] { issue(copies, carried[1], next); });
      commit();
      SmallVector<Value> sums(carried.drop_front(2));
      multiplyStage(stage(carried[0]), sums);
      sums.insert(sums.begin(), {nextStage(carried[0]), nextStage(carried[1])});
      return sums;
    };
    auto sums = b.loop(b.i32(0), b.i32(numSteps), b.i32(1), inits, body);
    return SmallVector<Value>(ArrayRef<Value>(sums).drop_front(2));
  }

  //===--------------------------------------------------------------------===//
  // Results
  //===--------------------------------------------------------------------===//

  /// A lane has two neighbouring columns of a row in its first two sums, and
  /// those 8 rows below in the others.
  void storeSums(const Tile &tile, ArrayRef<Value> sums) {
    Value numRows = b.sub(tile.endRow, tile.firstRow);
    Value firstRow = b.add(warpRow, b.div(lane, 4));
    Value firstColumn =
        b.add(b.add(tile.firstColumn, warpColumn), b.mul(b.rem(lane, 4), 2));
    for (int64_t m = 0; m < rowFragments; ++m)
      for (int64_t half = 0; half < 2; ++half) {
        Value row = b.add(firstRow, m * kMmaRows + half * 8);
        b.onlyIf(b.less(row, numRows), [&] {
          auto at = epilogue.enterRow(tile.expert, b.add(tile.firstRow, row));
          for (int64_t n = 0; n < columnFragments; ++n) {
            Value column = b.add(firstColumn, n * kMmaColumns);
            b.onlyIf(isColumn(column), [&] {
              epilogue.storePair(at, column, pairsOf(sums, m, n, half));
            });
          }
        });
      }
  }

  /// Of each product.
  SmallVector<std::array<Value, 2>> pairsOf(ArrayRef<Value> sums, int64_t m,
                                            int64_t n, int64_t half) {
    SmallVector<std::array<Value, 2>> pairs;
    for (int64_t p = 0; p < numProducts; ++p) {
      int64_t first = indexOf(p, m, n) + 2 * half;
      pairs.push_back({sums[first], sums[first + 1]});
    }
    return pairs;
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
