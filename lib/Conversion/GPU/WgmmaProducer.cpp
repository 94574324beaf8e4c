//===- WgmmaProducer.cpp - The warp group that copies ---------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Weights, and rows that lie one after the other, are boxes: one lane starts
// their copies and the stage's `full` counts their bytes. Rows that have to be
// gathered are copied by all 128 threads with cp.async, 16 bytes at a time.
// Such copies are not of the proxy that wgmma reads by: a thread waits for its
// own part, `lag` steps later, fences, and arrives at `full`.
//
//===----------------------------------------------------------------------===//

#include "WgmmaSides.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// The address space of a cluster's shared memory, which bulk copies write.
static constexpr unsigned kClusterMemory = 7;

WgmmaProducer::WgmmaProducer(KernelBuilder &b, const WgmmaTask &task,
                             StageRing &ring, const MatmulMaps &maps,
                             ValueRange tensorMaps, Value thread, Value warp)
    : b(b), task(task), ring(ring), maps(maps), tensorMaps(tensorMaps),
      thread(thread), warp(warp),
      lag(std::max<int64_t>(task.config.getStages() - 2, 1)) {}

SmallVector<Value> WgmmaProducer::pack(const Progress &at) const {
  SmallVector<Value> values = {at.cursor.stage, at.cursor.parity};
  if (!maps.rows)
    values.push_back(at.started);
  return values;
}

WgmmaProducer::Progress WgmmaProducer::unpack(ValueRange values) const {
  return {{values[0], values[1]}, maps.rows ? Value() : values[2]};
}

void WgmmaProducer::build(TileSearch &search) {
  auto copyAll = [&] {
    Progress at = unpack(b.loop(
        b.blockId(), search.getNumTiles(), b.numBlocks(),
        pack({ring.start(), b.i32(0)}), [&](Value number, ValueRange carried) {
          return pack(copyTile(search.find(number), unpack(carried)));
        }));
    // What is still on its way.
    for (int64_t i = maps.rows ? 0 : lag; i > 0; --i)
      b.onlyIf(b.less(b.i32(i - 1), at.started),
               [&] { publish(ring.before(at.cursor.stage, i), i - 1); });
  };
  // Other warps have nothing to do where nothing is gathered.
  b.onlyIf(maps.rows ? b.equal(warp, 0) : Value(), copyAll);
}

/// Tells that this thread's part of `stage` is there: all of its copies but
/// those of the `pending` last steps.
void WgmmaProducer::publish(Value stage, int64_t pending) {
  NVVM::CpAsyncWaitGroupOp::create(b, pending);
  NVVM::FenceProxyOp::create(
      b, NVVM::ProxyKind::async_shared,
      NVVM::SharedSpaceAttr::get(b.getContext(),
                                 NVVM::SharedSpace::shared_cta));
  ring.arriveFull(stage);
}

WgmmaProducer::Progress WgmmaProducer::copyTile(const Tile &tile, Progress at) {
  std::optional<TileCopy> rows;
  if (!maps.rows)
    rows = gatherRows(tile);
  auto body = [&](Value step, ValueRange carried) {
    Progress now = unpack(carried);
    Value stage = now.cursor.stage;
    // First what has arrived: it may be what others wait for before they empty
    // this stage.
    if (rows)
      b.onlyIf(b.less(b.i32(lag - 1), now.started),
               [&] { publish(ring.before(stage, lag), lag - 1); });
    ring.waitEmpty(now.cursor);
    b.onlyIf(rows ? b.equal(warp, 0) : Value(),
             [&] { b.inOneLane([&] { copyBoxes(tile, stage, step); }); });
    Progress next = {ring.next(now.cursor), Value()};
    if (!rows)
      return pack(next);
    rows->issue(ring.getStage(stage), step);
    NVVM::CpAsyncCommitGroupOp::create(b);
    next.started = b.add(now.started, 1);
    return pack(next);
  };
  return unpack(
      b.loop(b.i32(0), b.i32(task.numSteps()), b.i32(1), pack(at), body));
}

//===----------------------------------------------------------------------===//
// Boxes
//===----------------------------------------------------------------------===//

void WgmmaProducer::copyBoxes(const Tile &tile, Value stage, Value step) {
  Value barrier = ring.getFull(stage), shared = ring.getStage(stage);
  int64_t weights = task.numWeights() * task.weightBytes();
  ring.expectBytes(stage, weights + (maps.rows ? task.rowsBytes() : 0));
  Value sum = b.mul(step, task.config.getTileSum());
  if (maps.rows)
    copyBox(*maps.rows, shared, barrier,
            {{Matmul::kRow, tile.firstRow}, {Matmul::kSum, sum}});
  // Weights with n last come in panels of as many columns as a swizzle spans.
  int64_t columns = task.weightColumns();
  Value firstColumn = b.mul(tile.firstColumn, task.problem.getColumnRatio());
  int64_t boxColumns = task.problem.sumIsLast ? columns : kPanelColumns;
  for (auto [p, weight] : llvm::enumerate(maps.weights)) {
    int64_t place = task.rowsBytes() + p * task.weightBytes();
    for (int64_t at = 0; at < columns; at += boxColumns)
      copyBox(weight.map, b.advance(shared, place + at * kRowBytes), barrier,
              {{Matmul::kExpert, tile.expert},
               {Matmul::kColumn, b.add(firstColumn, weight.firstColumn + at)},
               {Matmul::kSum, sum}});
  }
}

void WgmmaProducer::copyBox(unsigned map, Value shared, Value barrier,
                            ArrayRef<std::pair<unsigned, Value>> place) {
  // The dimension that runs fastest comes first.
  SmallVector<Value> coordinates;
  for (unsigned dim : llvm::reverse(maps.maps[map].dims))
    for (auto [at, value] : place)
      if (at == dim)
        coordinates.push_back(value);
  Value target =
      LLVM::AddrSpaceCastOp::create(b, b.pointerType(kClusterMemory), shared);
  NVVM::CpAsyncBulkTensorGlobalToSharedClusterOp::create(
      b, target, tensorMaps[map], coordinates, barrier,
      /*im2colOffsets=*/ValueRange(), /*multicastMask=*/Value(),
      /*l2CacheHint=*/Value(), NVVM::TMALoadMode::TILE, /*isCTAOnly=*/false,
      /*group=*/NVVM::CTAGroupKindAttr(), /*predicate=*/Value());
}

//===----------------------------------------------------------------------===//
// Gathered rows
//===----------------------------------------------------------------------===//

TileCopy WgmmaProducer::gatherRows(const Tile &tile) {
  const MatmulProblem &problem = task.problem;
  const LinearAccess &rows = problem.rows;
  Value numRows = b.sub(tile.endRow, tile.firstRow);
  auto sourceOf = [&](Value row, Value piece) -> TileCopy::Source {
    Value valid = b.less(row, numRows);
    Value at = b.add(tile.firstRow, b.select(valid, row, b.i32(0)));
    Value place = b.element(task.toDevice.lookup(problem.source),
                            b.getI32Type(), b.widen(at));
    Value token = b.div(b.loadConstant(b.getI32Type(), place), problem.topK);
    Value sum = b.mul(piece, kPieceElements);
    Value index =
        b.add(b.mul(b.widen(token), rows.coefficients[Matmul::kToken]),
              b.add(b.widen(sum), rows.constant));
    return {b.element(task.toDevice.lookup(rows.buffer), rows.getElementType(),
                      index),
            valid, sum};
  };
  return TileCopy(b, thread, kGroupThreads, task.config.getTileRows(),
                  kRowBytes, task.config.getTileSum(), problem.length,
                  sourceOf);
}
