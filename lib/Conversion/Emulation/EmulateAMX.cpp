//===- EmulateAMX.cpp - AMX as loops over vectors ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tile becomes a buffer on the stack of its function: values of tiles have
// buffers of their own, and those that a loop carries are copied at its start
// and at the end of each iteration.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEEMULATEAMX
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {
class Emulator {
public:
  explicit Emulator(MLIRContext *context) : b(context) {}

  LogicalResult emulate(Operation *root);

private:
  LogicalResult emulate(Block &block);
  LogicalResult emulateLoop(scf::ForOp loop);
  void emulate(amx::TileZeroOp op);
  void emulate(amx::TileLoadOp op);
  void emulate(amx::TileStoreOp op);
  LogicalResult emulate(amx::TileMulFOp op);

  /// Memory for `tile`, whose uses get it from now on.
  Value allocate(Value tile);
  Value allocate(amx::TileType type, Operation *user);
  Value lookUp(Value tile) { return buffers.lookup(tile); }
  VectorType getRowType(amx::TileType type) {
    return VectorType::get({type.getDimSize(1)}, type.getElementType());
  }
  Value loadRow(OpBuilder &b, Location loc, Value buffer, Value row) {
    auto type = cast<MemRefType>(buffer.getType());
    auto rowType = VectorType::get({type.getDimSize(1)}, type.getElementType());
    return vector::LoadOp::create(b, loc, rowType, buffer,
                                  ValueRange{row, buildIndex(b, loc, 0)});
  }
  void storeRow(OpBuilder &b, Location loc, Value vector, Value buffer,
                Value row) {
    vector::StoreOp::create(b, loc, vector, buffer,
                            ValueRange{row, buildIndex(b, loc, 0)});
  }
  void forRows(Location loc, int64_t count,
               function_ref<void(OpBuilder &, Value)> body) {
    buildLoop(b, loc, buildIndex(b, loc, 0), buildIndex(b, loc, count),
              buildIndex(b, loc, 1), body);
  }
  void copy(Location loc, Value from, Value to) {
    int64_t rows = cast<MemRefType>(from.getType()).getDimSize(0);
    forRows(loc, rows, [&](OpBuilder &b, Value row) {
      storeRow(b, loc, loadRow(b, loc, from, row), to, row);
    });
  }

  OpBuilder b;
  DenseMap<Value, Value> buffers;
  SmallVector<Operation *> replaced;
};
} // namespace

/// In the function, or the task that becomes one: a loop's body would take new
/// memory in each iteration.
Value Emulator::allocate(amx::TileType type, Operation *user) {
  Region *region = user->getParentRegion();
  while (!isa<FunctionOpInterface, scf::ParallelOp>(region->getParentOp()))
    region = region->getParentRegion();
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&region->front());
  return memref::AllocaOp::create(
      b, user->getLoc(),
      MemRefType::get(type.getShape(), type.getElementType()),
      b.getI64IntegerAttr(64));
}

Value Emulator::allocate(Value tile) {
  Operation *user = tile.getDefiningOp();
  Value buffer = allocate(cast<amx::TileType>(tile.getType()), user);
  buffers[tile] = buffer;
  return buffer;
}

void Emulator::emulate(amx::TileZeroOp op) {
  Value buffer = allocate(op.getRes());
  Location loc = op.getLoc();
  Value zeros = arith::ConstantOp::create(
      b, loc, b.getZeroAttr(getRowType(op.getTileType())));
  forRows(loc, op.getTileType().getDimSize(0), [&](OpBuilder &b, Value row) {
    storeRow(b, loc, zeros, buffer, row);
  });
}

/// The indices of row `row` of a tile that begins at `indices`.
static SmallVector<Value> moveDown(OpBuilder &b, Location loc,
                                   ValueRange indices, Value stride,
                                   Value row) {
  SmallVector<Value> moved(indices);
  if (!stride) {
    Value &index = moved[moved.size() - 2];
    index = arith::AddIOp::create(b, loc, index, row);
    return moved;
  }
  Value distance = arith::MulIOp::create(b, loc, row, stride);
  moved.back() = arith::AddIOp::create(b, loc, moved.back(), distance);
  return moved;
}

void Emulator::emulate(amx::TileLoadOp op) {
  Value buffer = allocate(op.getRes());
  Location loc = op.getLoc();
  VectorType type = getRowType(op.getTileType());
  forRows(loc, op.getTileType().getDimSize(0), [&](OpBuilder &b, Value row) {
    Value elements = vector::LoadOp::create(
        b, loc, type, op.getBase(),
        moveDown(b, loc, op.getIndices(), op.getStride(), row));
    storeRow(b, loc, elements, buffer, row);
  });
}

void Emulator::emulate(amx::TileStoreOp op) {
  Location loc = op.getLoc();
  Value buffer = lookUp(op.getVal());
  forRows(loc, op.getTileType().getDimSize(0), [&](OpBuilder &b, Value row) {
    vector::StoreOp::create(
        b, loc, loadRow(b, loc, buffer, row), op.getBase(),
        moveDown(b, loc, op.getIndices(), op.getStride(), row));
  });
}

/// As Intel's manual says: sums of the even and of the odd elements of k begin
/// at 0, one fused multiply-add after the other, and are added to each other,
/// then to the accumulator. (Denormals count as 0 there; here they do not.)
LogicalResult Emulator::emulate(amx::TileMulFOp op) {
  if (!op.getLhsTileType().getElementType().isBF16())
    return op.emitError("moe-emulate-amx: only products of bf16 are emulated");
  Location loc = op.getLoc();
  Value result = allocate(op.getRes());
  Value lhs = lookUp(op.getLhs()), rhs = lookUp(op.getRhs());
  Value acc = lookUp(op.getAcc());
  VectorType sumType = getRowType(op.getTileType());
  int64_t pairs = op.getRhsTileType().getDimSize(0);
  auto spread = [&](OpBuilder &b, Value row, Value k) -> Value {
    Value element = memref::LoadOp::create(b, loc, lhs, ValueRange{row, k});
    element = arith::ExtFOp::create(b, loc, b.getF32Type(), element);
    return vector::BroadcastOp::create(b, loc, sumType, element);
  };
  forRows(loc, op.getTileType().getDimSize(0), [&](OpBuilder &b, Value row) {
    Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(sumType));
    Carried sums = buildFor(
        b, loc, buildIndex(b, loc, 0), buildIndex(b, loc, pairs), {none, none},
        [&](OpBuilder &b, Location, Value pair, ValueRange sums) -> Carried {
          auto columns = vector::DeinterleaveOp::create(
              b, loc, loadRow(b, loc, rhs, pair));
          Value even =
              arith::MulIOp::create(b, loc, pair, buildIndex(b, loc, 2));
          Value odd =
              arith::AddIOp::create(b, loc, even, buildIndex(b, loc, 1));
          auto multiply = [&](Value k, Value column, Value sum) -> Value {
            column = arith::ExtFOp::create(b, loc, sumType, column);
            return vector::FMAOp::create(b, loc, spread(b, row, k), column,
                                         sum);
          };
          return {multiply(even, columns.getRes1(), sums[0]),
                  multiply(odd, columns.getRes2(), sums[1])};
        });
    Value sum = arith::AddFOp::create(b, loc, sums[0], sums[1]);
    sum = arith::AddFOp::create(b, loc, loadRow(b, loc, acc, row), sum);
    storeRow(b, loc, sum, result, row);
  });
  return success();
}

LogicalResult Emulator::emulateLoop(scf::ForOp loop) {
  if (!llvm::all_of(loop.getResultTypes(), llvm::IsaPred<amx::TileType>))
    return loop.emitError(
        "moe-emulate-amx: a loop carries tiles and other values");
  Location loc = loop.getLoc();
  SmallVector<Value> carried;
  for (auto [init, argument, result] : llvm::zip(
           loop.getInitArgs(), loop.getRegionIterArgs(), loop.getResults())) {
    Value buffer = allocate(result);
    copy(loc, lookUp(init), buffer);
    buffers[argument] = buffer;
    carried.push_back(buffer);
  }
  auto bare = scf::ForOp::create(b, loc, loop.getLowerBound(),
                                 loop.getUpperBound(), loop.getStep());
  Block *from = loop.getBody(), *to = bare.getBody();
  Operation *yield = from->getTerminator();
  to->getOperations().splice(to->begin(), from->getOperations(), from->begin(),
                             yield->getIterator());
  loop.getInductionVar().replaceAllUsesWith(bare.getInductionVar());
  if (failed(emulate(*to)))
    return failure();

  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(to->getTerminator());
  SmallVector<Value> yielded;
  for (Value tile : yield->getOperands()) {
    Value buffer = lookUp(tile);
    if (llvm::is_contained(carried, buffer)) {
      // Another one may be written before this one is read.
      Value kept = allocate(cast<amx::TileType>(tile.getType()), bare);
      copy(loc, buffer, kept);
      buffer = kept;
    }
    yielded.push_back(buffer);
  }
  for (auto [buffer, kept] : llvm::zip(carried, yielded))
    copy(loc, kept, buffer);
  replaced.push_back(loop);
  return success();
}

LogicalResult Emulator::emulate(Block &block) {
  auto isTile = [](Type type) { return isa<amx::TileType>(type); };
  for (Operation &op : llvm::make_early_inc_range(block)) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(&op);
    if (isa_and_nonnull<amx::AMXDialect>(op.getDialect())) {
      LogicalResult done =
          llvm::TypeSwitch<Operation *, LogicalResult>(&op)
              .Case<amx::TileZeroOp, amx::TileLoadOp, amx::TileStoreOp>(
                  [&](auto tileOp) {
                    emulate(tileOp);
                    return success();
                  })
              .Case([&](amx::TileMulFOp multiply) { return emulate(multiply); })
              .Default([](Operation *other) {
                return other->emitError(
                    "moe-emulate-amx: nothing is known of this op");
              });
      if (failed(done))
        return failure();
      replaced.push_back(&op);
      continue;
    }
    auto loop = dyn_cast<scf::ForOp>(op);
    if (loop && llvm::any_of(loop.getResultTypes(), isTile)) {
      if (failed(emulateLoop(loop)))
        return failure();
      continue;
    }
    if (llvm::any_of(op.getResultTypes(), isTile))
      return op.emitError("moe-emulate-amx: a tile that no op of amx makes");
    for (Region &region : op.getRegions())
      for (Block &nested : region)
        if (failed(emulate(nested)))
          return failure();
  }
  return success();
}

LogicalResult Emulator::emulate(Operation *root) {
  for (Region &region : root->getRegions())
    for (Block &block : region)
      if (failed(emulate(block)))
        return failure();
  for (Operation *op : replaced)
    op->dropAllReferences();
  for (Operation *op : replaced) {
    op->dropAllDefinedValueUses();
    op->erase();
  }
  return success();
}

namespace {
struct EmulateAMXPass : moe::impl::MoEEmulateAMXBase<EmulateAMXPass> {
  void runOnOperation() override {
    if (failed(Emulator(&getContext()).emulate(getOperation())))
      signalPassFailure();
  }
};
} // namespace
