//===- WeightPanel.cpp - Weights of a tile, decoded -----------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tile's weights are decoded once for all rows of a block, along k as they
// are stored: codes are loaded as vectors, two codes in a byte as a vector
// whose lanes are doubled, and what lanes share (the scale of a block) is
// loaded and worked on as a scalar. An iteration decodes several vectors, so
// that the scalars are few.
//
//===----------------------------------------------------------------------===//

#include "WeightPanel.h"

#include "LaneOffsets.h"
#include "VectorAccess.h"
#include "VectorRegion.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/SmallFloat.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

/// Vectors of f32 that an iteration decodes, at most.
static constexpr int64_t kVectorsOfRun = 4;

std::string mlir::moe::findDecodeObstacle(const Matmul::Term &term) {
  if (!term.decode)
    return "";
  if (Operation *scalar = findScalarOnlyOp(*term.decode))
    return ("'" + scalar->getName().getStringRef() +
            "' in the decode region does not work on vectors; use elementwise "
            "ops of arith and math")
        .str();
  return "";
}

Type mlir::moe::getWeightPanelType(CPUMatmulAttr config) {
  Builder b(config.getContext());
  return config.usesBf16Dot() ? Type(b.getBF16Type()) : b.getF32Type();
}

//===----------------------------------------------------------------------===//
// Numbers of n and k that a region computes
//===----------------------------------------------------------------------===//

namespace {
/// Results of a region as expressions in n and k, which are not negative.
class IndexExpressions {
public:
  explicit IndexExpressions(Region &region) {
    MLIRContext *context = region.getContext();
    exprs[region.getArgument(0)] = getAffineDimExpr(Matmul::kColumn, context);
    exprs[region.getArgument(1)] = getAffineDimExpr(Matmul::kSum, context);
    for (Operation &op : region.front().without_terminator())
      if (AffineExpr expr = express(op))
        exprs[op.getResult(0)] = expr;
  }

  /// Null if there is none.
  AffineExpr lookup(Value value) const { return exprs.lookup(value); }

private:
  llvm::SmallDenseMap<Value, AffineExpr> exprs;

  AffineExpr express(Operation &op) {
    if (op.getNumResults() != 1 || op.getNumOperands() == 0)
      return AffineExpr();
    AffineExpr x = lookup(op.getOperand(0));
    if (!x)
      return AffineExpr();
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(op))
      return op.getResult(0).getType().getIntOrFloatBitWidth() >= 32
                 ? x
                 : AffineExpr();
    APInt number;
    if (op.getNumOperands() != 2 ||
        !matchPattern(op.getOperand(1), m_ConstantInt(&number)) ||
        !number.isStrictlyPositive() || number.getActiveBits() > 31)
      return AffineExpr();
    return combine(op, x, number.getSExtValue());
  }

  static AffineExpr combine(Operation &op, AffineExpr x, int64_t y) {
    return llvm::TypeSwitch<Operation *, AffineExpr>(&op)
        .Case<arith::AddIOp>([&](auto) { return x + y; })
        .Case<arith::MulIOp>([&](auto) { return x * y; })
        .Case<arith::DivUIOp, arith::DivSIOp, arith::FloorDivSIOp>(
            [&](auto) { return x.floorDiv(y); })
        .Case<arith::RemUIOp, arith::RemSIOp>([&](auto) { return x % y; })
        .Case<arith::AndIOp>([&](auto) {
          return llvm::isPowerOf2_64(y + 1) ? x % (y + 1) : AffineExpr();
        })
        .Case<arith::ShRUIOp, arith::ShRSIOp>([&](auto) {
          return y < 31 ? x.floorDiv(int64_t(1) << y) : AffineExpr();
        })
        .Default([](Operation *) { return AffineExpr(); });
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// Decoding
//===----------------------------------------------------------------------===//

namespace {
class RowDecoder {
public:
  RowDecoder(Location loc, const WeightPanelRow &row)
      : loc(loc), row(row), term(row.term), width(row.config.getLanes()),
        length(term.getLength()), run(kVectorsOfRun * width),
        indices(*term.decode) {
    while (row.start % run != 0)
      run /= 2;
    lanes = std::min(run, 2 * width);
    for (AffineMap map : term.storedMaps)
      sharedLanes.push_back(getSharedLanes(map));
  }

  void build(OpBuilder &b, function_ref<void(OpBuilder &, Value)> prefetch) {
    int64_t rest = row.size % run;
    Value wholeEnd = buildIndex(b, loc, row.size - rest);
    auto decode = [&](OpBuilder &b, Value place, int64_t count) {
      Value k =
          arith::AddIOp::create(b, loc, place, buildIndex(b, loc, row.start));
      prefetch(b, k);
      decodeRun(b, place, k, count);
    };
    buildLoop(b, loc, buildIndex(b, loc, 0), wholeEnd, buildIndex(b, loc, run),
              [&](OpBuilder &b, Value place) { decode(b, place, run); });
    if (rest)
      decode(b, wholeEnd, rest);
  }

private:
  Location loc;
  const WeightPanelRow &row;
  const Matmul::Term &term;
  /// f32 of a vector; k; elements of an iteration; and those that the region
  /// works on at once: two vectors of f32, one where they have 16 bits.
  int64_t width, length, run, lanes;
  /// For each stored operand, how many consecutive k of a run have one element.
  SmallVector<int64_t> sharedLanes;
  IndexExpressions indices;

  Value shifted(OpBuilder &b, Value from, int64_t by) {
    return getValueOrCreateConstantIndexOp(
        b, loc,
        affine::makeComposedFoldedAffineApply(
            b, loc, b.getAffineDimExpr(0) + by, getAsOpFoldResult(from)));
  }

  /// `count` elements from `k` on, at `place` of the panel's row.
  void decodeRun(OpBuilder &b, Value place, Value k, int64_t count) {
    SmallVector<Value> elements(term.stored.size());
    for (int64_t done = 0; done < count; done += lanes) {
      Value from = shifted(b, k, done);
      for (auto [i, buffer] : llvm::enumerate(term.stored))
        if (sharedLanes[i] < lanes)
          elements[i] = loadLanes(b, buffer, term.storedMaps[i], from,
                                  std::min(lanes, count - done));
        else if (done % sharedLanes[i] == 0)
          elements[i] = loadElement(b, buffer, term.storedMaps[i], from);
      store(b, decodeVector(b, elements, from), shifted(b, place, done),
            count - done);
    }
  }

  /// The first `count` of `values` and what is left of the last vector.
  void store(OpBuilder &b, Value values, Value place, int64_t count) {
    for (int64_t first = 0; first < std::min(lanes, count); first += width) {
      Value part = vector::ExtractStridedSliceOp::create(b, loc, values, first,
                                                         width, /*strides=*/1);
      vector::StoreOp::create(b, loc, toPanelType(b, part), row.panel,
                              ValueRange{row.row, shifted(b, place, first)});
    }
  }

  std::optional<LaneOffsets> getOffsets(AffineExpr index, int64_t lanes) {
    return getLaneOffsets(index, Matmul::kSum, lanes, length);
  }

  /// Whether `map` reads one element for all of `lanes`.
  bool isShared(AffineMap map, int64_t lanes) {
    return llvm::all_of(map.getResults(), [&](AffineExpr index) {
      std::optional<LaneOffsets> offsets = getOffsets(index, lanes);
      return offsets && offsets->areEqual();
    });
  }

  /// The longest part of a run for which it does so.
  int64_t getSharedLanes(AffineMap map) {
    int64_t shared = run;
    while (shared > 1 && !isShared(map, shared))
      shared /= 2;
    return shared;
  }

  MatmulIndices dimsAt(Value k) {
    MatmulIndices dims = row.dims;
    dims[Matmul::kSum] = getAsOpFoldResult(k);
    return dims;
  }

  Value loadElement(OpBuilder &b, Value buffer, AffineMap map, Value k) {
    return memref::LoadOp::create(b, loc, buffer,
                                  buildIndices(b, loc, map, dimsAt(k)));
  }

  /// `count` elements from `k` on, in lanes; those beyond mean nothing.
  Value loadLanes(OpBuilder &b, Value buffer, AffineMap map, Value k,
                  int64_t count) {
    if (map.getNumResults() == 0)
      return loadElement(b, buffer, map, k);
    std::optional<LaneOffsets> offsets =
        getOffsets(map.getResults().back(), lanes);
    AffineMap others = map.getMajorSubMap(map.getNumResults() - 1);
    if (!offsets || !isShared(others, lanes) ||
        !llvm::is_sorted(offsets->offsets) || offsets->offsets.back() >= lanes)
      return gather(b, buffer, map, k, count);
    int64_t span = offsets->offsets.back() + 1;
    Value mask = buildPrefixMask(b, loc, span, offsets->offsets[count - 1] + 1);
    Value loaded = loadVector(b, loc, buffer,
                              buildIndices(b, loc, map, dimsAt(k)), span, mask);
    if (span == lanes)
      return loaded;
    return vector::ShuffleOp::create(b, loc, loaded, loaded, offsets->offsets);
  }

  /// Element by element, for what has no order that vectors know.
  Value gather(OpBuilder &b, Value buffer, AffineMap map, Value k,
               int64_t count) {
    SmallVector<Value> elements;
    for (int64_t lane = 0; lane < count; ++lane) {
      Value at = arith::AddIOp::create(b, loc, k, buildIndex(b, loc, lane));
      elements.push_back(loadElement(b, buffer, map, at));
    }
    elements.resize(lanes, elements.back());
    return vector::FromElementsOp::create(
        b, loc, VectorType::get({lanes}, elements[0].getType()), elements);
  }

  /// What the region yields from `k` on, for `elements` of the operands.
  Value decodeVector(OpBuilder &b, ArrayRef<Value> elements, Value k) {
    Value n =
        getValueOrCreateConstantIndexOp(b, loc, row.dims[Matmul::kColumn]);
    SmallVector<Value> args = {
        n, buildIndexLanes(b, b.getAffineDimExpr(Matmul::kSum), k,
                           b.getIndexType())};
    args.append(elements.begin(), elements.end());
    auto rewrite = [&](Operation &op, ValueRange operands) {
      AffineExpr index = indices.lookup(op.getResult(0));
      return index ? buildIndexLanes(b, index, k, op.getResult(0).getType())
                   : rewriteCast(b, op, operands);
    };
    return inlineOnVectors(b, loc, *term.decode, args, lanes, rewrite)[0];
  }

  /// A vector of weights as the panel has them.
  Value toPanelType(OpBuilder &b, Value values) {
    Type type = getWeightPanelType(row.config);
    if (getElementTypeOrSelf(values.getType()) == type)
      return values;
    if (isSmallFloat(values.getType()))
      return buildSmallFloatExtension(b, loc, values, hasHalf());
    if (!type.isBF16())
      return buildExtensionToF32(b, loc, values);
    // Flushes subnormals, as the product does.
    return x86vector::CvtPackedF32ToBF16Op::create(
        b, loc, VectorType::get({width}, type), values);
  }

  /// `index`, of n and k, in each lane from `k` on: a scalar where all are
  /// equal, null where they are not known to differ by constants.
  Value buildIndexLanes(OpBuilder &b, AffineExpr index, Value k, Type type) {
    std::optional<LaneOffsets> offsets = getOffsets(index, lanes);
    if (!offsets)
      return Value();
    auto vectorType = VectorType::get({lanes}, type);
    auto constant = [&](int64_t first) {
      SmallVector<Attribute> values;
      for (int64_t offset : offsets->offsets)
        values.push_back(b.getIntegerAttr(type, first + offset));
      return arith::ConstantOp::create(
          b, loc, DenseElementsAttr::get(vectorType, values));
    };
    if (offsets->first)
      return constant(*offsets->first);
    Value first = getValueOrCreateConstantIndexOp(
        b, loc,
        affine::makeComposedFoldedAffineApply(
            b, loc, AffineMap::get(Matmul::kNumDims, 0, index), dimsAt(k)));
    if (!type.isIndex())
      first = arith::IndexCastOp::create(b, loc, type, first);
    if (offsets->areEqual())
      return first;
    Value all = vector::BroadcastOp::create(b, loc, vectorType, first);
    return arith::AddIOp::create(b, loc, all, constant(0));
  }

  /// Vectors of 8 f32 and more come with conversions of f16.
  bool hasHalf() const { return width >= 8; }

  /// Casts that the machine has better instructions for than what they expand
  /// to; null for other ops.
  Value rewriteCast(OpBuilder &b, Operation &op, ValueRange operands) {
    if (operands.size() != 1 || !isa<VectorType>(operands[0].getType()))
      return Value();
    Type from = getElementTypeOrSelf(operands[0].getType());
    Type to = op.getResult(0).getType();
    if (isa<arith::ExtFOp>(op) && to.isF32() && isSmallFloat(from))
      return buildSmallFloatExtension(b, loc, operands[0], hasHalf());
    bool isLast = isa<arith::TruncFOp>(op) && from.isF32() && to.isBF16() &&
                  llvm::all_of(op.getUsers(), llvm::IsaPred<YieldOp>);
    if (!isLast)
      return Value();
    // Left to the panel, or rounded where it is: a cast there and back would
    // take the lanes apart.
    return row.config.usesBf16Dot() ? operands[0] : roundToBF16(b, operands[0]);
  }

  /// A vector of f32, rounded to nearest even; NaN stays one.
  Value roundToBF16(OpBuilder &b, Value values) {
    auto floats = cast<VectorType>(values.getType());
    auto ints = floats.clone(b.getI32Type());
    auto constant = [&](int32_t value) {
      return arith::ConstantOp::create(
          b, loc, DenseElementsAttr::get(ints, b.getI32IntegerAttr(value)));
    };
    Value bits = arith::BitcastOp::create(b, loc, ints, values);
    Value last = arith::AndIOp::create(
        b, loc, arith::ShRUIOp::create(b, loc, bits, constant(16)),
        constant(1));
    Value half = arith::AddIOp::create(b, loc, last, constant(0x7fff));
    Value sum = arith::AddIOp::create(b, loc, bits, half);
    Value rounded = arith::BitcastOp::create(
        b, loc, floats, arith::AndIOp::create(b, loc, sum, constant(~0xffff)));
    Value isNaN = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO,
                                        values, values);
    return arith::SelectOp::create(b, loc, isNaN, values, rounded);
  }
};
} // namespace

void mlir::moe::buildWeightPanelRow(
    OpBuilder &builder, Location loc, const WeightPanelRow &row,
    function_ref<void(OpBuilder &, Value)> prefetch) {
  RowDecoder(loc, row).build(builder, prefetch);
}
