//===- GroupedMatmulLoops.cpp - An element of a result at a time ----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For what the tensor cores' kernels do not take: f32, sums of terms, rows that
// are computed, weights that are decoded. An iteration finds its expert from
// the offsets, so that all of them are independent.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

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
  explicit MatmulLoops(Matmul op)
      : op(op), loc(op.getLoc()), products(op.getProducts()) {}

  void build(OpBuilder &b) {
    zero = buildIndex(b, loc, 0);
    one = buildIndex(b, loc, 1);
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
  SmallVector<Matmul::Product> products;
  Value zero, one, numExperts;
  /// Values of e, m, t, j, n and k at the insertion point.
  SmallVector<Value> indices;

  Value readIndex(OpBuilder &b, Value buffer, Value at) {
    Value id = memref::LoadOp::create(b, loc, buffer, at);
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
  }

  Value read(OpBuilder &b, Value buffer, AffineMap map) {
    SmallVector<OpFoldResult> operands = getAsOpFoldResult(indices);
    SmallVector<Value> at;
    for (unsigned i = 0; i < map.getNumResults(); ++i)
      at.push_back(getValueOrCreateConstantIndexOp(
          b, loc,
          affine::makeComposedFoldedAffineApply(b, loc, map.getSubMap({i}),
                                                operands)));
    return memref::LoadOp::create(b, loc, buffer, at);
  }

  /// The number of experts whose rows end at `row` or before: its expert, or E
  /// where nobody owns it.
  Value findExpert(OpBuilder &b, Value row) {
    return buildFor(
        b, loc, zero, numExperts, zero,
        [&](OpBuilder &b, Location, Value expert, ValueRange count) -> Carried {
          Value next = arith::AddIOp::create(b, loc, expert, one);
          Value end = readIndex(b, op.getOffsets(), next);
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
      indices.assign(Matmul::kNumDims, zero);
      indices[Matmul::kExpert] = expert;
      indices[Matmul::kRow] = row;
      indices[Matmul::kColumn] = column;
      if (op.getSource() && op.getTopK()) {
        Value source = readIndex(b, op.getSource(), row);
        Value topK = buildIndex(b, loc, *op.getTopK());
        indices[Matmul::kToken] = arith::DivUIOp::create(b, loc, source, topK);
        indices[Matmul::kChoice] = arith::RemUIOp::create(b, loc, source, topK);
      }
      storeResults(b);
      return {};
    });
  }

  /// out[m, n] = epilogue(products, extras)
  void storeResults(OpBuilder &b) {
    SmallVector<Value> args;
    for (const Matmul::Product &product : products)
      args.push_back(buildProduct(b, product));
    auto maps = op.getExtraMaps().getAsValueRange<AffineMapAttr>();
    for (auto [extra, map] : llvm::zip(op.getExtras(), maps))
      args.push_back(read(b, extra, map));
    SmallVector<Value> values = inlineRegion(b, op.getEpilogue(), args);
    for (auto [value, out] : llvm::zip(values, op.getInits()))
      memref::StoreOp::create(
          b, loc, value, out,
          ValueRange{indices[Matmul::kRow], indices[Matmul::kColumn]});
  }

  Value buildProduct(OpBuilder &b, const Matmul::Product &product) {
    Value sum = buildFloat(b, loc, b.getF32Type(), 0.0);
    for (const Matmul::Term &term : product) {
      Value length = memref::DimOp::create(b, loc, term.lhs, 1);
      sum = buildFor(
          b, loc, zero, length, sum,
          [&](OpBuilder &b, Location, Value k, ValueRange sum) -> Carried {
            indices[Matmul::kSum] = k;
            Value lhs = buildExtensionToF32(b, loc, readLhs(b, term));
            Value weight = buildExtensionToF32(b, loc, readWeight(b, term));
            Value scaled = arith::MulFOp::create(b, loc, lhs, weight);
            return {arith::AddFOp::create(b, loc, sum[0], scaled).getResult()};
          })[0];
    }
    return sum;
  }

  Value readLhs(OpBuilder &b, const Matmul::Term &term) {
    SmallVector<Value> args = {read(b, term.lhs, term.lhsMap)};
    if (!term.prologue)
      return args[0];
    for (auto [extra, map] : llvm::zip(term.lhsExtras, term.lhsExtraMaps))
      args.push_back(read(b, extra, map));
    return inlineRegion(b, *term.prologue, args)[0];
  }

  Value readWeight(OpBuilder &b, const Matmul::Term &term) {
    if (!term.decode)
      return read(b, term.getWeight(), term.getWeightMap());
    SmallVector<Value> args = {indices[Matmul::kColumn], indices[Matmul::kSum]};
    for (auto [stored, map] : llvm::zip(term.stored, term.storedMaps))
      args.push_back(read(b, stored, map));
    return inlineRegion(b, *term.decode, args)[0];
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
      MatmulLoops(op).build(b);
      op.erase();
    }
  }
};

} // namespace
