//===- TilingInterfaceImpl.cpp - Tiles of moe ops ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All loops are parallel, and a tile of an op is the same op on slices, so that
// any tiling gives the bits of the op itself.
//
//===----------------------------------------------------------------------===//

#include "TiledIndices.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Interfaces/TilingInterface.h"
#include "moe/Dialect/MoE/Transforms/Transforms.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The loop that runs over each dimension of a result; none where every tile
/// has the whole dimension. All results of an op have the same.
using LoopsOfDims = std::array<std::optional<unsigned>, 2>;

/// An op whose operands are replaced by slices, one after the other.
class TiledOp {
public:
  TiledOp(OpBuilder &b, DestinationStyleOpInterface op)
      : b(b), loc(op.getLoc()), op(op),
        operands(op->getOperands().begin(), op->getOperands().end()) {}

  OpBuilder &b;
  Location loc;
  SmallVector<Operation *> slices;

  /// Dimensions 0, 1, … of the operand are narrowed to `tiles`.
  void slice(OpOperand &operand, ArrayRef<std::optional<Tile>> tiles) {
    replace(operand, sliceLeading(b, loc, operand.get(), tiles, slices));
  }
  void slice(MutableOperandRange range, ArrayRef<std::optional<Tile>> tiles) {
    for (OpOperand &operand : range)
      slice(operand, tiles);
  }
  void replace(OpOperand &operand, Value value) {
    operands[operand.getOperandNumber()] = value;
  }

  Operation *build() {
    Operation *tiled = b.clone(*op);
    tiled->setOperands(operands);
    auto inits = op.getDpsInitsMutable();
    for (auto [result, init] : llvm::zip(tiled->getResults(), inits))
      result.setType(operands[init.getOperandNumber()].getType());
    return tiled;
  }

private:
  DestinationStyleOpInterface op;
  SmallVector<Value> operands;
};

//===----------------------------------------------------------------------===//
// What a tile of each op is
//===----------------------------------------------------------------------===//

struct GateTiles {
  static LoopsOfDims getLoopsOfDims(GateOp) { return {0, std::nullopt}; }

  static FailureOr<Operation *> tile(TiledOp &tiled, GateOp op,
                                     ArrayRef<Tile> tiles, std::string &) {
    tiled.slice(op.getLogitsMutable(), {tiles[0]});
    tiled.slice(op.getMixMutable(), {tiles[0]});
    tiled.slice(op.getInitsMutable(), {tiles[0]});
    return tiled.build();
  }
};

/// Every tile reads all rows: a token's may lie anywhere.
struct CombineTiles {
  static LoopsOfDims getLoopsOfDims(CombineOp) { return {0, 1}; }

  static FailureOr<Operation *> tile(TiledOp &tiled, CombineOp op,
                                     ArrayRef<Tile> tiles, std::string &) {
    tiled.slice(op.getRowsMutable(), {std::nullopt, tiles[1]});
    tiled.slice(op.getSlotsMutable(), {tiles[0]});
    tiled.slice(op.getWeightsMutable(), {tiles[0]});
    tiled.slice(op.getBaseMutable(), {tiles[0], tiles[1]});
    tiled.slice(op.getInitsMutable(), {tiles[0], tiles[1]});
    return tiled.build();
  }
};

/// Tiles of rows clip the experts' ranges. An op that adds into tokens is not
/// tiled by tokens: each tile would compute all rows.
struct GroupedMatmulTiles {
  static LoopsOfDims getLoopsOfDims(GroupedMatmulOp op) {
    if (op.isCombining())
      return {std::nullopt, 0};
    return {0, 1};
  }

  static FailureOr<Operation *> tile(TiledOp &tiled, GroupedMatmulOp op,
                                     ArrayRef<Tile> tiles,
                                     std::string &whyNot) {
    std::optional<Tile> rows;
    SmallVector<TiledDim, 2> dims = {{GroupedMatmulOp::kColumn, tiles.back()}};
    if (!op.isCombining() && !isWholeDim(tiles[0], op.getInits()[0], 0)) {
      rows = tiles[0];
      dims.push_back({GroupedMatmulOp::kRow, *rows});
      tiled.replace(op.getOffsetsMutable(), clipOffsets(tiled, op, *rows));
      tiled.slice(op.getSourceMutable(), {rows});
    }
    FailureOr<ArrayAttr> factorMaps = sliceAll(
        tiled, op.getFactorsMutable(), op.getFactorMaps(), dims, whyNot);
    FailureOr<ArrayAttr> extraMaps =
        sliceAll(tiled, op.getExtrasMutable(), op.getExtraMaps(), dims, whyNot);
    if (failed(factorMaps) || failed(extraMaps))
      return failure();
    tiled.slice(op.getBaseMutable(), {rows, tiles.back()});
    tiled.slice(op.getInitsMutable(), {rows, tiles.back()});
    auto matmul = cast<GroupedMatmulOp>(tiled.build());
    matmul.setFactorMapsAttr(*factorMaps);
    matmul.setExtraMapsAttr(*extraMaps);
    moveDecodedColumns(tiled, matmul, tiles.back().offset);
    return matmul.getOperation();
  }

private:
  /// Slices indexed operands; returns their new maps.
  static FailureOr<ArrayAttr> sliceAll(TiledOp &tiled,
                                       MutableOperandRange operands,
                                       ArrayAttr maps, ArrayRef<TiledDim> dims,
                                       std::string &whyNot) {
    SmallVector<AffineMap> newMaps;
    for (auto [operand, map] :
         llvm::zip(operands, maps.getAsValueRange<AffineMapAttr>())) {
      FailureOr<IndexedSlice> part = sliceIndexed(
          tiled.b, tiled.loc, operand.get(), map, dims, tiled.slices, whyNot);
      if (failed(part))
        return failure();
      tiled.replace(operand, part->value);
      newMaps.push_back(part->map);
    }
    return tiled.b.getAffineMapArrayAttr(newMaps);
  }

  /// Where each expert's rows begin within the tile: those before it at its
  /// first row, those after it at its end.
  static Value clipOffsets(TiledOp &tiled, GroupedMatmulOp op,
                           const Tile &rows) {
    OpBuilder &b = tiled.b;
    Location loc = tiled.loc;
    Value offsets = op.getOffsets();
    auto toI32 = [&](OpFoldResult index) -> Value {
      return arith::IndexCastOp::create(
          b, loc, b.getI32Type(),
          getValueOrCreateConstantIndexOp(b, loc, index));
    };
    Value first = toI32(rows.offset), size = toI32(rows.size);
    Value zero = buildI32(b, loc, 0);
    Value empty = tensor::EmptyOp::create(
        b, loc, tensor::getMixedSizes(b, loc, offsets), b.getI32Type());
    SmallVector<AffineMap> maps(2, b.getMultiDimIdentityMap(1));
    SmallVector<utils::IteratorType> loops = {utils::IteratorType::parallel};
    auto clip = [&](OpBuilder &b, Location loc, ValueRange args) {
      Value row = arith::SubIOp::create(b, loc, args[0], first);
      Value above = arith::MaxSIOp::create(b, loc, row, zero);
      Value inside = arith::MinSIOp::create(b, loc, above, size);
      linalg::YieldOp::create(b, loc, inside);
    };
    return linalg::GenericOp::create(b, loc, empty.getType(), offsets, empty,
                                     maps, loops, clip)
        .getResult(0);
  }

  /// A decode region is told the column: that of the whole matrix.
  static void moveDecodedColumns(TiledOp &tiled, GroupedMatmulOp matmul,
                                 OpFoldResult by) {
    if (isZeroInteger(by))
      return;
    for (const GroupedMatmulOp::Product &product : matmul.getProducts())
      for (const GroupedMatmulOp::Term &term : product) {
        if (!term.decode || term.decode->getArgument(0).use_empty())
          continue;
        OpBuilder b = OpBuilder::atBlockBegin(&term.decode->front());
        Value column = term.decode->getArgument(0);
        auto moved = arith::AddIOp::create(
            b, tiled.loc, column,
            getValueOrCreateConstantIndexOp(b, tiled.loc, by));
        column.replaceAllUsesExcept(moved, moved);
      }
  }
};

//===----------------------------------------------------------------------===//
// The interface, from those
//===----------------------------------------------------------------------===//

template <typename OpTy, typename Tiles>
struct TilingModel
    : TilingInterface::ExternalModel<TilingModel<OpTy, Tiles>, OpTy> {
  static unsigned getNumLoops(Operation *op) {
    LoopsOfDims loops = Tiles::getLoopsOfDims(cast<OpTy>(op));
    return llvm::count_if(loops, [](auto loop) { return loop.has_value(); });
  }

  static OpFoldResult getExtent(OpBuilder &b, Operation *op, unsigned dim) {
    return tensor::getMixedSize(b, op->getLoc(), cast<OpTy>(op).getInits()[0],
                                dim);
  }

  SmallVector<utils::IteratorType> getLoopIteratorTypes(Operation *op) const {
    return SmallVector<utils::IteratorType>(getNumLoops(op),
                                            utils::IteratorType::parallel);
  }

  SmallVector<Range> getIterationDomain(Operation *op, OpBuilder &b) const {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(op);
    SmallVector<Range> domain(getNumLoops(op));
    for (auto [dim, loop] :
         llvm::enumerate(Tiles::getLoopsOfDims(cast<OpTy>(op))))
      if (loop)
        domain[*loop] = {b.getIndexAttr(0), getExtent(b, op, dim),
                         b.getIndexAttr(1)};
    return domain;
  }

  /// The tile, or why there is none.
  static FailureOr<TilingResult> tile(Operation *op, OpBuilder &b,
                                      ArrayRef<OpFoldResult> offsets,
                                      ArrayRef<OpFoldResult> sizes,
                                      std::string &whyNot) {
    auto typed = cast<OpTy>(op);
    if (!typed.hasPureTensorSemantics()) {
      whyNot = "it works on memrefs; tile it before bufferization";
      return failure();
    }
    SmallVector<Tile> tiles;
    for (auto [offset, size] : llvm::zip(offsets, sizes))
      tiles.push_back({offset, size});
    TiledOp tiled(b, typed);
    FailureOr<Operation *> result = Tiles::tile(tiled, typed, tiles, whyNot);
    if (failed(result))
      return failure();
    return TilingResult{
        {*result}, SmallVector<Value>((*result)->getResults()), tiled.slices};
  }

  FailureOr<TilingResult>
  getTiledImplementation(Operation *op, OpBuilder &b,
                         ArrayRef<OpFoldResult> offsets,
                         ArrayRef<OpFoldResult> sizes) const {
    std::string whyNot;
    FailureOr<TilingResult> tiled = tile(op, b, offsets, sizes, whyNot);
    if (failed(tiled))
      return op->emitOpError("cannot be tiled so: ") << whyNot;
    return tiled;
  }

  LogicalResult getResultTilePosition(
      Operation *op, OpBuilder &b, unsigned, ArrayRef<OpFoldResult> offsets,
      ArrayRef<OpFoldResult> sizes, SmallVector<OpFoldResult> &resultOffsets,
      SmallVector<OpFoldResult> &resultSizes) const {
    for (auto [dim, loop] :
         llvm::enumerate(Tiles::getLoopsOfDims(cast<OpTy>(op)))) {
      resultOffsets.push_back(loop ? offsets[*loop] : b.getIndexAttr(0));
      resultSizes.push_back(loop ? sizes[*loop] : getExtent(b, op, dim));
    }
    return success();
  }

  /// Fails where the tile has a part of a dimension that no loop runs over.
  LogicalResult getIterationDomainTileFromResultTile(
      Operation *op, OpBuilder &, unsigned, ArrayRef<OpFoldResult> offsets,
      ArrayRef<OpFoldResult> sizes,
      SmallVectorImpl<OpFoldResult> &domainOffsets,
      SmallVectorImpl<OpFoldResult> &domainSizes) const {
    domainOffsets.assign(getNumLoops(op), {});
    domainSizes.assign(getNumLoops(op), {});
    for (auto [dim, loop] :
         llvm::enumerate(Tiles::getLoopsOfDims(cast<OpTy>(op)))) {
      Tile tile = {offsets[dim], sizes[dim]};
      if (!loop && !isWholeDim(tile, cast<OpTy>(op).getInits()[0], dim))
        return failure();
      if (!loop)
        continue;
      domainOffsets[*loop] = tile.offset;
      domainSizes[*loop] = tile.size;
    }
    return success();
  }

  FailureOr<TilingResult>
  generateResultTileValue(Operation *op, OpBuilder &b, unsigned resultNumber,
                          ArrayRef<OpFoldResult> offsets,
                          ArrayRef<OpFoldResult> sizes) const {
    SmallVector<OpFoldResult> domainOffsets, domainSizes;
    if (failed(getIterationDomainTileFromResultTile(
            op, b, resultNumber, offsets, sizes, domainOffsets, domainSizes)))
      return failure();
    std::string whyNot; // Fusion is tried; nobody asked for this tile.
    FailureOr<TilingResult> tiled =
        tile(op, b, domainOffsets, domainSizes, whyNot);
    if (failed(tiled))
      return failure();
    tiled->tiledValues = {tiled->tiledValues[resultNumber]};
    return tiled;
  }
};

} // namespace

void mlir::moe::registerTilingInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoEDialect *) {
    GateOp::attachInterface<TilingModel<GateOp, GateTiles>>(*context);
    CombineOp::attachInterface<TilingModel<CombineOp, CombineTiles>>(*context);
    GroupedMatmulOp::attachInterface<
        TilingModel<GroupedMatmulOp, GroupedMatmulTiles>>(*context);
  });
}
