//===- WgmmaSides.h - Who copies and who multiplies -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A kernel for sm_90a has two sides that walk the same tiles in the same order,
// and meet only at the mbarriers of a ring of stages: a warp group that copies
// (the producer) and those that multiply (the consumers).
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_WGMMASIDES_H
#define LIB_CONVERSION_GPU_WGMMASIDES_H

#include "MatmulEpilogue.h"
#include "StageRing.h"
#include "TensorMaps.h"
#include "TileCopy.h"
#include "TileSearch.h"

namespace mlir::moe {

/// Warps and threads of a warp group.
constexpr int64_t kGroupWarps = 4, kGroupThreads = kGroupWarps * kWarpSize;

/// What both sides know of a kernel.
struct WgmmaTask {
  const MatmulProblem &problem;
  GPUWgmmaAttr config;
  const IRMapping &toDevice;
  Value shared;

  int64_t numWeights() const {
    return static_cast<int64_t>(problem.weights.size());
  }
  /// Of each weight.
  int64_t weightColumns() const {
    return problem.getWeightColumns(config.getTileColumns());
  }
  /// The side that instructions take 64 of, and the other.
  int64_t sideM() const {
    return config.getSwapped() ? weightColumns() : config.getTileRows();
  }
  int64_t sideN() const {
    return config.getSwapped() ? config.getTileRows() : weightColumns();
  }
  int64_t numSteps() const {
    return llvm::divideCeil(problem.length, config.getTileSum());
  }
  /// A stage has the rows, then each weight, in bytes.
  int64_t rowsBytes() const { return config.getTileRows() * kRowBytes; }
  int64_t weightBytes() const { return weightColumns() * kRowBytes; }
  int64_t stageBytes() const {
    return rowsBytes() + numWeights() * weightBytes();
  }
};

/// Copies the stages of the tiles of a block.
class WgmmaProducer {
public:
  /// `thread` is an i32 below 128, `warp` its warp.
  WgmmaProducer(KernelBuilder &b, const WgmmaTask &task, StageRing &ring,
                const MatmulMaps &maps, ValueRange tensorMaps, Value thread,
                Value warp);

  /// Arrivals that fill a stage: by one lane for the bulk copies, and by each
  /// thread for the rows it gathers.
  static int64_t numFills(const MatmulMaps &maps) {
    return maps.rows ? 1 : 1 + kGroupThreads;
  }

  /// Copies all tiles; every thread of the group comes here.
  void build(TileSearch &search);

private:
  /// Besides the cursor: how many steps have been started.
  struct Progress {
    StageRing::Cursor cursor;
    Value started;
  };
  SmallVector<Value> pack(const Progress &at) const;
  Progress unpack(ValueRange values) const;

  Progress copyTile(const Tile &tile, Progress at);
  void copyBoxes(const Tile &tile, Value stage, Value step);
  void copyBox(unsigned map, Value shared, Value barrier,
               ArrayRef<std::pair<unsigned, Value>> place);
  TileCopy gatherRows(const Tile &tile);
  void publish(Value stage, int64_t pending);

  KernelBuilder &b;
  const WgmmaTask &task;
  StageRing &ring;
  const MatmulMaps &maps;
  ValueRange tensorMaps;
  Value thread, warp;
  /// Steps of gathered rows that are on their way while the next is started.
  int64_t lag;
};

/// Multiplies the stages of the tiles of a block and stores results.
class WgmmaConsumer {
public:
  /// `group` is an i32 below config.getGroups(), `warp` one below 4.
  WgmmaConsumer(KernelBuilder &b, const WgmmaTask &task, StageRing &ring,
                Value group, Value warp, Value lane);

  /// Each warp gives a stage back for itself: what one waits for says nothing
  /// of the reads of others.
  static int64_t numEmpties(GPUWgmmaAttr config) {
    return config.getGroups() * kGroupWarps;
  }

  /// Computes all tiles; every thread of the group comes here.
  void build(TileSearch &search);

private:
  Value describe(Value address, bool sumIsLast);
  Value move(Value descriptor, Value stage, int64_t bytes);
  Value multiply(Value m, Value n, Value sums, bool adds);
  SmallVector<Value> multiplyStage(Value stage, ValueRange sums, bool only);
  void release(Value stage, Value condition);
  StageRing::Cursor computeTile(const Tile &tile, StageRing::Cursor at);

  Value takeSum(ValueRange sums, int64_t weight, int64_t fragment,
                int64_t index);
  SmallVector<MatmulEpilogue::Pair> takePairs(ValueRange sums, int64_t fragment,
                                              int64_t half, int64_t n);
  void storeRows(const Tile &tile, ValueRange sums);
  void storeRow(const MatmulEpilogue::Row &row, Value isRow, Value column,
                ArrayRef<SmallVector<MatmulEpilogue::Pair>> pairs);
  /// A column of results, and a sum for each product.
  struct Column {
    Value column;
    SmallVector<Value> sums;
  };
  Column takeAlternating(Value first, Value upper, Value lower);
  SmallVector<Column> takeColumns(const Tile &tile, ValueRange sums,
                                  int64_t row);
  void storeColumns(const Tile &tile, ValueRange sums);
  Value isColumn(Value column);

  KernelBuilder &b;
  const WgmmaTask &task;
  StageRing &ring;
  MatmulEpilogue epilogue;
  /// Pieces of 64 of the tile's side M that a group has.
  int64_t numFragments;
  bool swapped, sumIsLast;
  Value group, warp, lane;
  /// Where the operands of step 0 are: those with 64 and with n of a side.
  Value descriptorM, descriptorN;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_WGMMASIDES_H
