//===- GroupedMatmulLoops.cpp - An element of a result at a time ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For what the tensor cores' kernels do not take: sums of terms, weights that
// are decoded or of another type than rows. An iteration finds its expert from
// the offsets, so that all of them are independent.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/MatmulElement.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEGROUPEDMATMULTOPARALLELLOOPS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {

/// Builds the loops for one op.
class MatmulLoops {
public:
  MatmulLoops(OpBuilder &b, Matmul op)
      : op(op), loc(op.getLoc()), zero(buildIndex(b, loc, 0)),
        one(buildIndex(b, loc, 1)), element(b, op) {}

  void build(OpBuilder &b) {
    Value out = op.getInits()[0];
    Value rows = memref::DimOp::create(b, loc, out, 0);
    Value columns = memref::DimOp::create(b, loc, out, 1);
    Value offsets = memref::DimOp::create(b, loc, op.getOffsets(), 0);
    numExperts = arith::SubIOp::create(b, loc, offsets, one);
    scf::ParallelOp::create(
        b, loc, ValueRange{zero, zero}, ValueRange{rows, columns},
        ValueRange{one, one},
        [&](OpBuilder &b, Location, ValueRange at) { buildElement(b, at); });
  }

private:
  Matmul op;
  Location loc;
  Value zero, one, numExperts;
  MatmulElement element;

  /// The number of experts whose rows end at `row` or before: its expert, or E
  /// where nobody owns it.
  Value findExpert(OpBuilder &b, Value row) {
    return buildFor(
        b, loc, zero, numExperts, zero,
        [&](OpBuilder &b, Location, Value expert, ValueRange count) -> Carried {
          Value next = arith::AddIOp::create(b, loc, expert, one);
          Value end = element.readId(b, op.getOffsets(), next);
          Value isPast = arith::CmpIOp::create(
              b, loc, arith::CmpIPredicate::sle, end, row);
          Value more = arith::AddIOp::create(b, loc, count[0], one);
          return {arith::SelectOp::create(b, loc, isPast, more, count[0])
                      .getResult()};
        })[0];
  }

  void buildElement(OpBuilder &b, ValueRange at) {
    Value row = at[0], column = at[1];
    Value expert = findExpert(b, row);
    Value isOwned = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                          expert, numExperts);
    buildIf(b, loc, isOwned, [&](OpBuilder &b, Location) -> Carried {
      element.setIndex(Matmul::kExpert, expert);
      element.enterRow(b, row);
      element.setIndex(Matmul::kColumn, column);
      // out[m, n] = epilogue(products, extras)
      for (auto [value, out] : llvm::zip(element.build(b), op.getInits()))
        memref::StoreOp::create(b, loc, value, out, at);
      return {};
    });
  }
};

struct GroupedMatmulToParallelLoopsPass
    : moe::impl::MoEGroupedMatmulToParallelLoopsBase<
          GroupedMatmulToParallelLoopsPass> {
  void runOnOperation() override {
    SmallVector<Matmul> ops;
    getOperation()->walk([&](Matmul op) {
      if (op.hasPureBufferSemantics() && !op.isCombining())
        ops.push_back(op);
    });
    for (Matmul op : ops) {
      OpBuilder b(op);
      MatmulLoops(b, op).build(b);
      op.erase();
    }
  }
};

} // namespace
