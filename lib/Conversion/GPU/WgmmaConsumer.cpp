//===- WgmmaConsumer.cpp - The warp groups that multiply ------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A group has 64 · numFragments of the tile's side M and all of its side N. The
// products of a step run while those of the step before are waited for, whose
// stage is then given back.
//
// The four warps of a group have 16 of each 64 of M; a lane has, of 8 of N at a
// time, two neighbours in N at lane / 4 of its 16, and two more 8 below.
//
//===----------------------------------------------------------------------===//

#include "WgmmaSides.h"

using namespace mlir;
using namespace mlir::moe;

/// What wgmma takes: 64 of M and 16 of k. 64 rows of 128 bytes, or a panel of
/// 64 columns for 64 of k, are as many bytes.
static constexpr int64_t kWgmmaM = 64, kWgmmaSum = 16;
static constexpr int64_t kFragmentBytes = kWgmmaM * kRowBytes;

WgmmaConsumer::WgmmaConsumer(KernelBuilder &b, const WgmmaTask &task,
                             StageRing &ring, Value group, Value warp,
                             Value lane)
    : b(b), task(task), ring(ring), epilogue(b, task.problem, task.toDevice),
      numFragments(task.sideM() / kWgmmaM / task.config.getGroups()),
      swapped(task.config.getSwapped()), sumIsLast(task.problem.sumIsLast),
      group(group), warp(warp), lane(lane) {
  Value address = LLVM::PtrToIntOp::create(b, b.getI32Type(), task.shared);
  Value weights = b.add(address, task.rowsBytes());
  Value own = b.mul(group, numFragments * kFragmentBytes);
  descriptorM = swapped ? describe(b.add(weights, own), sumIsLast)
                        : describe(b.add(address, own), /*sumIsLast=*/true);
  descriptorN = swapped ? describe(address, /*sumIsLast=*/true)
                        : describe(weights, sumIsLast);
}

void WgmmaConsumer::build(TileSearch &search) {
  StageRing::Cursor start = ring.start();
  b.loop(b.blockId(), search.getNumTiles(), b.numBlocks(),
         ValueRange{start.stage, start.parity},
         [&](Value number, ValueRange at) -> SmallVector<Value> {
           auto [stage, parity] =
               computeTile(search.find(number), {at[0], at[1]});
           return {stage, parity};
         });
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

/// A matrix descriptor: the address, the distances of neighbouring cores of
/// 8 rows × 128 bytes (all in units of 16 bytes), and a swizzle of 128 bytes.
/// With k in the rows, cores follow each other along M or N. Otherwise they do
/// along k, and panels of 64 follow each other along M or N.
Value WgmmaConsumer::describe(Value address, bool sumIsLast) {
  constexpr int64_t kSwizzle128 = int64_t(1) << 62, kCore = 8 * kRowBytes;
  int64_t panel = sumIsLast ? 16 : kFragmentBytes;
  Value start = b.bitAnd(b.shiftRight(address, 4), 0x3fff);
  return b.add(b.widen(start),
               kSwizzle128 | (kCore / 16) << 32 | (panel / 16) << 16);
}

/// The descriptor `bytes` on in stage `stage`. Addresses of shared memory fit
/// their field, so nothing carries over.
Value WgmmaConsumer::move(Value descriptor, Value stage, int64_t bytes) {
  Value offset = b.mul(b.widen(stage), task.stageBytes() / 16);
  return b.add(b.add(descriptor, offset), bytes / 16);
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// sums += m · n, for 64 × tile N and 16 of k; m · n alone without `adds`.
Value WgmmaConsumer::multiply(Value m, Value n, Value sums, bool adds) {
  using NVVM::MMALayout;
  auto type = task.problem.elementType.isF16() ? NVVM::WGMMATypes::f16
                                               : NVVM::WGMMATypes::bf16;
  bool sumIsLastInM = !swapped || sumIsLast,
       sumIsLastInN = swapped || sumIsLast;
  auto shape =
      NVVM::MMAShapeAttr::get(b.getContext(), kWgmmaM, task.sideN(), kWgmmaSum);
  return NVVM::WgmmaMmaAsyncOp::create(
      b, sums.getType(), sums, m, n, shape, type, type, NVVM::WGMMATypes::f32,
      adds ? NVVM::WGMMAScaleOut::one : NVVM::WGMMAScaleOut::zero,
      NVVM::WGMMAScaleIn::one, NVVM::WGMMAScaleIn::one,
      sumIsLastInM ? MMALayout::row : MMALayout::col,
      sumIsLastInN ? MMALayout::col : MMALayout::row,
      /*satfinite=*/NVVM::MMAIntOverflowAttr());
}

/// Starts the products of a stage; `sums` has a struct for each product and
/// fragment, whose values are not read if the stage is a tile's `only` one.
SmallVector<Value> WgmmaConsumer::multiplyStage(Value stage, ValueRange sums,
                                                bool only) {
  // 16 of k are 32 bytes of a row, or 16 rows of a panel.
  auto stepOf = [&](int64_t k, bool sumIsLast) {
    return sumIsLast ? k * 2 : k * kRowBytes;
  };
  SmallVector<Value> results(sums);
  NVVM::WgmmaFenceAlignedOp::create(b);
  for (int64_t k = 0; k < task.config.getTileSum(); k += kWgmmaSum) {
    int64_t weightStep = stepOf(k, sumIsLast), rowStep = stepOf(k, true);
    for (int64_t p = 0; p < task.numWeights(); ++p)
      for (int64_t i = 0; i < numFragments; ++i) {
        int64_t weight = p * task.weightBytes() + weightStep;
        int64_t fragment = i * kFragmentBytes;
        Value m =
            move(descriptorM, stage, fragment + (swapped ? weight : rowStep));
        Value n = move(descriptorN, stage, swapped ? rowStep : weight);
        Value &sum = results[p * numFragments + i];
        sum = multiply(m, n, sum, /*adds=*/k > 0 || !only);
      }
  }
  NVVM::WgmmaGroupSyncAlignedOp::create(b);
  return results;
}

void WgmmaConsumer::release(Value stage, Value condition) {
  b.onlyIf(b.both(b.equal(lane, 0), condition),
           [&] { ring.arriveEmpty(stage); });
}

/// LLVM leaves the loop that `results` are of a loop, however few steps it has.
static void keepRolled(ValueRange results) {
  Operation *op = results.front().getDefiningOp();
  Builder b(op->getContext());
  auto unroll = LLVM::LoopUnrollAttr::get(b.getContext(), b.getBoolAttr(true),
                                          {}, {}, {}, {}, {}, {});
  op->setAttr("llvm.loop_annotation",
              LLVM::LoopAnnotationAttr::get(b.getContext(), {}, {}, {}, unroll,
                                            {}, {}, {}, {}, {}, {}, {}, {}, {},
                                            {}, {}));
}

StageRing::Cursor WgmmaConsumer::computeTile(const Tile &tile,
                                             StageRing::Cursor at) {
  auto type = LLVM::LLVMStructType::getLiteral(
      b.getContext(), SmallVector<Type>(task.sideN() / 2, b.getF32Type()));
  // ptxas takes wgmma one at a time where sums are cleared between a fence and
  // the first product. A loop's are cleared before it, as long as it stays one;
  // without a loop nothing is to be cleared.
  bool only = task.numSteps() == 1;
  Value none = only ? LLVM::UndefOp::create(b, type).getResult()
                    : LLVM::ZeroOp::create(b, type).getResult();
  // Beside the sums, the loop carries the cursor and the stage that is read
  // still: a test of `step` instead would make LLVM peel the first step off,
  // and the sums would move to other registers between the two.
  constexpr int64_t kCarried = 3;
  SmallVector<Value> inits = {at.stage, at.parity, b.i32(-1)};
  inits.append(task.numWeights() * numFragments, none);
  auto body = [&](Value, ValueRange carried) -> SmallVector<Value> {
    StageRing::Cursor cursor = {carried[0], carried[1]};
    ring.waitFull(cursor);
    SmallVector<Value> sums =
        multiplyStage(cursor.stage, carried.drop_front(kCarried), only);
    NVVM::WgmmaWaitGroupSyncOp::create(b, 1);
    release(carried[2], b.less(b.i32(-1), carried[2]));
    StageRing::Cursor next = ring.next(cursor);
    sums.insert(sums.begin(), {next.stage, next.parity, cursor.stage});
    return sums;
  };
  SmallVector<Value> done =
      b.loop(b.i32(0), b.i32(task.numSteps()), b.i32(1), inits, body);
  keepRolled(done);
  NVVM::WgmmaWaitGroupSyncOp::create(b, 0);
  release(done[2], Value());
  ValueRange sums = ValueRange(done).drop_front(kCarried);
  swapped ? storeColumns(tile, sums) : storeRows(tile, sums);
  return {done[0], done[1]};
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

Value WgmmaConsumer::takeSum(ValueRange sums, int64_t weight, int64_t fragment,
                             int64_t index) {
  return LLVM::ExtractValueOp::create(b, sums[weight * numFragments + fragment],
                                      ArrayRef<int64_t>{index});
}

/// Pairs for the n-th 8 columns of results. Where columns of two products
/// alternate, these are 16 of the weight: a lane has both sums of a column in
/// the first 8, and those of another in the next.
SmallVector<MatmulEpilogue::Pair> WgmmaConsumer::takePairs(ValueRange sums,
                                                           int64_t fragment,
                                                           int64_t half,
                                                           int64_t n) {
  auto take = [&](int64_t weight, int64_t n, int64_t next) {
    return takeSum(sums, weight, fragment, 4 * n + 2 * half + next);
  };
  SmallVector<MatmulEpilogue::Pair> pairs;
  for (int64_t which : task.problem.alternating)
    pairs.push_back({take(0, 2 * n, which), take(0, 2 * n + 1, which)});
  if (!pairs.empty())
    return pairs;
  for (int64_t p = 0; p < task.numWeights(); ++p)
    pairs.push_back({take(p, n, 0), take(p, n, 1)});
  return pairs;
}

/// Null where all tiles of columns are whole.
Value WgmmaConsumer::isColumn(Value column) {
  if (task.problem.numColumns % task.config.getTileColumns() == 0)
    return Value();
  return b.less(column, task.problem.numColumns);
}

/// M is rows: a lane has pairs of neighbouring columns. Eight rows at a time,
/// if there are any; lanes of those beyond the last compute that again, so that
/// all of a warp come to the shuffles, and do not store.
void WgmmaConsumer::storeRows(const Tile &tile, ValueRange sums) {
  Value numRows = b.sub(tile.endRow, tile.firstRow);
  Value warpRow = b.add(b.mul(group, numFragments * kWgmmaM), b.mul(warp, 16));
  for (int64_t i = 0; i < numFragments; ++i)
    for (int64_t half = 0; half < 2; ++half) {
      Value first = b.add(warpRow, i * kWgmmaM + half * 8);
      b.onlyIf(b.less(first, numRows), [&] {
        Value row = b.add(tile.firstRow, b.add(first, b.div(lane, 4)));
        auto at =
            epilogue.enterRow(tile.expert, b.min(row, b.sub(tile.endRow, 1)));
        SmallVector<SmallVector<MatmulEpilogue::Pair>> pairs;
        for (int64_t n = 0; n < task.config.getTileColumns() / 8; ++n)
          pairs.push_back(takePairs(sums, i, half, n));
        storeRow(at, b.less(row, tile.endRow), tile.firstColumn, pairs);
      });
    }
}

/// Stores what a lane has of a row, if that `isRow`: a pair of each 8 columns
/// from `column` on, 32 columns at once where that can be.
void WgmmaConsumer::storeRow(
    const MatmulEpilogue::Row &row, Value isRow, Value column,
    ArrayRef<SmallVector<MatmulEpilogue::Pair>> pairs) {
  constexpr size_t kTogether = 4;
  Value own =
      b.add(column, b.mul(b.rem(lane, 4), task.problem.getLaneColumns().step));
  for (size_t n = 0; n < pairs.size();) {
    bool together = epilogue.storesQuads() && n + kTogether <= pairs.size();
    size_t count = together ? kTogether : 1;
    auto apart = [&]() -> SmallVector<Value> {
      for (size_t i = n; i < n + count; ++i) {
        Value at = b.add(own, i * 8);
        b.onlyIf(b.both(isColumn(at), isRow),
                 [&] { epilogue.storePair(row, at, pairs[i]); });
      }
      return {};
    };
    auto atOnce = [&]() -> SmallVector<Value> {
      epilogue.storeQuads(row, isRow, b.add(column, n * 8), lane,
                          pairs.slice(n, count));
      return {};
    };
    Value whole = isColumn(b.add(column, (n + count) * 8 - 1));
    if (!together)
      apart();
    else if (!whole)
      atOnce();
    else
      b.ifElse(whole, atOnce, apart);
    n += count;
  }
}

/// Gate and up of a column are in lanes 4 apart, as first products and second
/// ones: `upper` of column `first`, `lower` of the column 4 further on. A lane
/// of the first ones takes both of column `first`, one of the second ones both
/// of the other. All lanes of a warp come here.
WgmmaConsumer::Column WgmmaConsumer::takeAlternating(Value first, Value upper,
                                                     Value lower) {
  Value isSecond = b.equal(b.bitAnd(lane, 4), 4);
  Value got = b.shuffleXor(b.select(isSecond, upper, lower), 4);
  Value both[] = {b.select(isSecond, got, upper),
                  b.select(isSecond, lower, got)};
  Column column = {b.select(isSecond, b.add(first, 4), first), {}};
  for (int64_t which : task.problem.alternating)
    column.sums.push_back(both[which]);
  return column;
}

/// All columns that a lane has of its row number `row`: of each 8 rows, two.
SmallVector<WgmmaConsumer::Column>
WgmmaConsumer::takeColumns(const Tile &tile, ValueRange sums, int64_t row) {
  int64_t ratio = task.problem.getColumnRatio();
  Value inWarp = b.div(b.div(lane, 4), ratio);
  Value own = b.add(tile.firstColumn,
                    b.add(b.mul(group, numFragments * kWgmmaM / ratio),
                          b.add(b.mul(warp, 16 / ratio), inWarp)));
  auto take = [&](int64_t weight, int64_t fragment, int64_t half) {
    return takeSum(sums, weight, fragment, row / 2 * 4 + half * 2 + row % 2);
  };
  SmallVector<Column> columns;
  for (int64_t i = 0; i < numFragments; ++i) {
    Value first = b.add(own, i * kWgmmaM / ratio);
    if (task.problem.alternates()) {
      columns.push_back(takeAlternating(first, take(0, i, 0), take(0, i, 1)));
      continue;
    }
    for (int64_t half = 0; half < 2; ++half) {
      columns.push_back({b.add(first, half * 8), {}});
      for (int64_t p = 0; p < task.numWeights(); ++p)
        columns.back().sums.push_back(take(p, i, half));
    }
  }
  return columns;
}

/// M is columns: a lane has pairs of neighbouring rows.
void WgmmaConsumer::storeColumns(const Tile &tile, ValueRange sums) {
  Value numRows = b.sub(tile.endRow, tile.firstRow);
  Value ownRow = b.mul(b.rem(lane, 4), 2);
  for (int64_t i = 0; i < task.sideN() / 4; ++i) {
    SmallVector<Column> columns = takeColumns(tile, sums, i);
    Value row = b.add(ownRow, i / 2 * 8 + i % 2);
    b.onlyIf(b.less(row, numRows), [&] {
      auto at = epilogue.enterRow(tile.expert, b.add(tile.firstRow, row));
      for (const Column &column : columns)
        b.onlyIf(isColumn(column.column),
                 [&] { epilogue.storeOne(at, column.column, column.sums); });
    });
  }
}
