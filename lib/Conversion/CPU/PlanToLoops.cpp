//===- PlanToLoops.cpp - Plans as a parallel counting sort ----------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Tokens are cut into chunks by their number alone. Each chunk counts its
// choices of each expert; a scan over (expert, chunk) gives the rows where each
// chunk's choices of each expert begin; each chunk then hands out its rows in
// order. Rows are by expert, then chunk, then position: the sort is stable, and
// the same for any number of threads.
//
//===----------------------------------------------------------------------===//

#include "GateStrategy.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPLANTOLOOPS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {
class PlanLowering {
public:
  PlanLowering(OpBuilder &b, PlanOp op, int64_t blockTokens)
      : op(op), loc(op.getLoc()), zero(buildIndex(b, loc, 0)),
        one(buildIndex(b, loc, 1)), oneI32(buildI32(b, loc, 1)) {
    numTokens = memref::DimOp::create(b, loc, op.getIds(), zero);
    topK = memref::DimOp::create(b, loc, op.getIds(), one);
    numExperts = arith::SubIOp::create(
        b, loc, memref::DimOp::create(b, loc, op.getOffsetsInit(), zero), one);
    Value blocks = arith::CeilDivUIOp::create(
        b, loc, numTokens, buildIndex(b, loc, blockTokens * kMostChunks));
    chunkTokens =
        arith::MulIOp::create(b, loc, blocks, buildIndex(b, loc, blockTokens));
    // Without tokens there is no chunk; sizes of 0 would divide by it.
    chunkTokens = arith::MaxUIOp::create(b, loc, chunkTokens, one);
    numChunks = arith::CeilDivUIOp::create(b, loc, numTokens, chunkTokens);
    mostChunks = arith::MinUIOp::create(
        b, loc,
        arith::CeilDivUIOp::create(b, loc, numTokens,
                                   buildIndex(b, loc, blockTokens)),
        buildIndex(b, loc, kMostChunks));
  }

  void lower(OpBuilder &b) {
    int64_t numStatic = op.getNumExperts();
    auto type =
        MemRefType::get({ShapedType::kDynamic, numStatic}, b.getI32Type());
    SmallVector<Value> sizes = {mostChunks};
    if (ShapedType::isDynamic(numStatic))
      sizes.push_back(numExperts);
    counts =
        memref::AllocOp::create(b, loc, type, sizes, b.getI64IntegerAttr(64));
    forChunks(b, [&](OpBuilder &b, Value chunk) { count(b, chunk); });
    scan(b);
    forChunks(b, [&](OpBuilder &b, Value chunk) { place(b, chunk); });
    clearRest(b);
  }

private:
  /// Enough for the threads of a machine, and few enough that the scan is short
  /// and their counts (E × 4 bytes each) are little memory.
  static constexpr int64_t kMostChunks = 32;

  PlanOp op;
  Location loc;
  Value zero, one, oneI32, numTokens, topK, numExperts, chunkTokens, numChunks;
  /// What numChunks never exceeds, as a short formula of T: workspace has it.
  Value mostChunks;
  Value counts; ///< chunks × E: choices, then the next row.

  using Visit = function_ref<void(OpBuilder &, Value)>;

  void loop(OpBuilder &b, Value lower, Value upper, Visit body) {
    buildLoop(b, loc, lower, upper, one, body);
  }

  void forChunks(OpBuilder &b, Visit body) {
    scf::ParallelOp::create(
        b, loc, ValueRange{zero}, ValueRange{numChunks}, ValueRange{one},
        [&](OpBuilder &b, Location, ValueRange chunk) { body(b, chunk[0]); });
  }

  Value load(OpBuilder &b, Value buffer, ValueRange at) {
    return memref::LoadOp::create(b, loc, buffer, at);
  }
  void store(OpBuilder &b, Value value, Value buffer, ValueRange at) {
    memref::StoreOp::create(b, loc, value, buffer, at);
  }
  Value addI32(OpBuilder &b, Value x, Value y) {
    return arith::AddIOp::create(b, loc, x, y);
  }

  /// Visits the choices of a chunk in order: (builder, t, j, id), where the id
  /// is an expert's, and (builder, t, j) where it is none.
  void forChoices(OpBuilder &b, Value chunk,
                  function_ref<void(OpBuilder &, Value, Value, Value)> routed,
                  function_ref<void(OpBuilder &, Value, Value)> nowhere) {
    Value first = arith::MulIOp::create(b, loc, chunk, chunkTokens);
    Value end = arith::MinUIOp::create(
        b, loc, arith::AddIOp::create(b, loc, first, chunkTokens), numTokens);
    Value limit =
        arith::IndexCastOp::create(b, loc, b.getI32Type(), numExperts);
    loop(b, first, end, [&](OpBuilder &b, Value t) {
      loop(b, zero, topK, [&](OpBuilder &b, Value j) {
        Value id = load(b, op.getIds(), {t, j});
        // As unsigned numbers, −1 is too large as well.
        Value isExpert =
            arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, id, limit);
        buildIf(
            b, loc, isExpert,
            [&](OpBuilder &b, Location) -> Carried {
              Value expert =
                  arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
              routed(b, t, j, expert);
              return {};
            },
            [&](OpBuilder &b, Location) -> Carried {
              nowhere(b, t, j);
              return {};
            });
      });
    });
  }

  void count(OpBuilder &b, Value chunk) {
    loop(b, zero, numExperts, [&](OpBuilder &b, Value e) {
      store(b, buildI32(b, loc, 0), counts, {chunk, e});
    });
    forChoices(
        b, chunk,
        [&](OpBuilder &b, Value, Value, Value e) {
          Value next = addI32(b, load(b, counts, {chunk, e}), oneI32);
          store(b, next, counts, {chunk, e});
        },
        [](OpBuilder &, Value, Value) {});
  }

  /// Counts become the first rows; offsets are those of the first chunk.
  void scan(OpBuilder &b) {
    Value none = buildI32(b, loc, 0);
    Value last = buildFor(
        b, loc, zero, numExperts, none,
        [&](OpBuilder &b, Location, Value e, ValueRange before) -> Carried {
          store(b, before[0], op.getOffsetsInit(), e);
          return buildFor(b, loc, zero, numChunks, before,
                          [&](OpBuilder &b, Location, Value chunk,
                              ValueRange row) -> Carried {
                            Value count = load(b, counts, {chunk, e});
                            store(b, row[0], counts, {chunk, e});
                            return {addI32(b, row[0], count)};
                          });
        })[0];
    store(b, last, op.getOffsetsInit(), numExperts);
  }

  void place(OpBuilder &b, Value chunk) {
    forChoices(
        b, chunk,
        [&](OpBuilder &b, Value t, Value j, Value e) {
          Value row = load(b, counts, {chunk, e});
          store(b, addI32(b, row, oneI32), counts, {chunk, e});
          store(b, row, op.getSlotsInit(), {t, j});
          Value choice = arith::AddIOp::create(
              b, loc, arith::MulIOp::create(b, loc, t, topK), j);
          store(b, arith::IndexCastOp::create(b, loc, b.getI32Type(), choice),
                op.getSourceInit(),
                arith::IndexCastOp::create(b, loc, b.getIndexType(), row)
                    .getResult());
        },
        [&](OpBuilder &b, Value t, Value j) {
          store(b, buildI32(b, loc, -1), op.getSlotsInit(), {t, j});
        });
  }

  /// Rows that no choice has are −1.
  void clearRest(OpBuilder &b) {
    Value numRows = memref::DimOp::create(b, loc, op.getSourceInit(), zero);
    Value used = arith::IndexCastOp::create(
        b, loc, b.getIndexType(), load(b, op.getOffsetsInit(), numExperts));
    loop(b, used, numRows, [&](OpBuilder &b, Value row) {
      store(b, buildI32(b, loc, -1), op.getSourceInit(), row);
    });
  }
};

struct PlanToLoopsPass : moe::impl::MoEPlanToLoopsBase<PlanToLoopsPass> {
  void runOnOperation() override {
    auto lower = [](OpBuilder &b, PlanOp op, int64_t blockTokens) {
      PlanLowering(b, op, blockTokens).lower(b);
    };
    if (failed(
            lowerTokenTasks<PlanOp>(getOperation(), findPlanObstacle, lower)))
      signalPassFailure();
  }
};
} // namespace
