//===- PackToVector.cpp - Packing of weights as vector code ---------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CPUMachine.h"
#include "PanelCopy.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPACKTOVECTOR
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// The most columns between two that are read, which shuffles pick out of whole
/// vectors.
static constexpr int64_t kMostStride = 4;

/// Looks through a slice that takes columns at regular distances, of the first
/// experts.
static void readSlice(PanelSource &source) {
  auto slice = source.tensor.getDefiningOp<tensor::ExtractSliceOp>();
  if (!slice || slice.getSourceType().getRank() != 3 ||
      slice.getType().getRank() != 3)
    return;
  int64_t sumDim = 3 - source.columnDim, columnDim = source.columnDim;
  ArrayRef<int64_t> offsets = slice.getStaticOffsets();
  ArrayRef<int64_t> strides = slice.getStaticStrides();
  if (offsets[0] != 0 || strides[0] != 1 || offsets[sumDim] != 0 ||
      strides[sumDim] != 1 || offsets[columnDim] < 0 ||
      strides[columnDim] < 1 ||
      slice.getSourceType().getDimSize(sumDim) != source.length)
    return;
  source.tensor = slice.getSource();
  source.first = offsets[columnDim];
  source.stride = strides[columnDim];
}

/// Whether the tiles and dimensions of `op` are those of packed weights.
static bool isPanelLayout(linalg::PackOp op, const PanelSource &source,
                          int64_t pair) {
  SmallVector<int64_t> dims = {source.columnDim}, tiles = {kPanelColumns};
  if (pair > 1) {
    dims.push_back(3 - source.columnDim);
    tiles.push_back(pair);
  }
  ArrayRef<int64_t> order = op.getOuterDimsPerm();
  bool isInOrder = source.columnDim == 1
                       ? order.empty() || order == ArrayRef<int64_t>{0, 1, 2}
                       : order == ArrayRef<int64_t>{0, 2, 1};
  return isInOrder && op.getInnerDimsPos() == ArrayRef(dims) &&
         op.getStaticTiles() == tiles;
}

/// What `op` packs; none if it is not packed weights of f32, f16 or bf16.
static std::optional<PanelSource> readPack(linalg::PackOp op) {
  RankedTensorType type = op.getSourceType();
  Type element = type.getElementType();
  if (type.getRank() != 3 || op.getInnerDimsPos().empty() ||
      !(element.isF32() || element.isF16() || element.isBF16()))
    return std::nullopt;
  if (op.getPaddingValue() &&
      !matchPattern(op.getPaddingValue(), m_PosZeroFloat()))
    return std::nullopt;
  PanelSource source;
  source.tensor = op.getSource();
  source.columnDim = op.getInnerDimsPos()[0];
  if (source.columnDim == 0)
    return std::nullopt;
  source.columns = type.getDimSize(source.columnDim);
  source.length = type.getDimSize(3 - source.columnDim);
  // Without elements there is nothing to make vectors of.
  if (ShapedType::isDynamic(source.columns) || source.columns == 0 ||
      ShapedType::isDynamic(source.length) || source.length == 0 ||
      !isPanelLayout(op, source, getPanelPair(element)))
    return std::nullopt;
  PanelSource whole = source;
  readSlice(source);
  int64_t size = cast<RankedTensorType>(source.tensor.getType())
                     .getDimSize(source.columnDim);
  // Where n runs last, whole windows of `stride` columns are read.
  bool hasWindows = source.stride <= kMostStride &&
                    !ShapedType::isDynamic(size) &&
                    source.first / source.stride * source.stride +
                            source.columns * source.stride <=
                        size;
  if (source.columnDim == 2 && !hasWindows)
    return whole.tensor == source.tensor ? std::nullopt : std::optional(whole);
  return source;
}

namespace {

/// Builds the loop over all panels of a pack.
class PackBuilder {
public:
  PackBuilder(linalg::PackOp op, const PanelSource &source, int64_t lanes)
      : op(op), loc(op.getLoc()), source(source), lanes(lanes) {}

  Value build(OpBuilder &b) {
    // Not those of source.tensor, of which a slice may take the first.
    Value numExperts = tensor::DimOp::create(b, loc, op.getSource(), 0);
    Value numPanels = buildIndex(b, loc, source.getNumPanels());
    Value numTasks = arith::MulIOp::create(b, loc, numExperts, numPanels);
    auto loop = scf::ForallOp::create(
        b, loc, ArrayRef<OpFoldResult>{numTasks}, op.getDest(), std::nullopt,
        [&](OpBuilder &b, Location, ValueRange arguments) {
          buildTask(b, arguments[0], numPanels, arguments[1]);
        });
    return loop.getResult(0);
  }

private:
  linalg::PackOp op;
  Location loc;
  const PanelSource &source;
  int64_t lanes;

  /// Panel `task` mod P of expert `task` div P.
  void buildTask(OpBuilder &b, Value task, Value numPanels, Value dest) {
    Value expert = arith::DivUIOp::create(b, loc, task, numPanels);
    Value panel = arith::RemUIOp::create(b, loc, task, numPanels);
    ArrayRef<int64_t> shape = op.getDestType().getShape();
    Attribute zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
    SmallVector<OpFoldResult> offsets(shape.size(), zero), sizes,
        strides(shape.size(), one);
    offsets[0] = expert;
    offsets[1] = panel;
    for (int64_t size : shape)
      sizes.push_back(b.getIndexAttr(size));
    sizes[0] = sizes[1] = one;
    auto type = RankedTensorType::get(shape.drop_front(2),
                                      op.getDestType().getElementType());
    Value slice = tensor::ExtractSliceOp::create(b, loc, type, dest, offsets,
                                                 sizes, strides);
    Value copied = buildPanel(b, expert, panel, slice);
    auto parallel = scf::InParallelOp::create(b, loc);
    b.setInsertionPointToStart(parallel.getBody());
    tensor::ParallelInsertSliceOp::create(b, loc, copied, dest, offsets, sizes,
                                          strides);
  }

  /// Rows of a panel are vectors, whatever pairs there are in them.
  Value buildPanel(OpBuilder &b, Value expert, Value panel, Value slice) {
    auto type = cast<RankedTensorType>(slice.getType());
    if (type.getRank() == 2)
      return buildColumns(b, expert, panel, slice);
    SmallVector<ReassociationIndices> rows = {{0}, {1, 2}};
    Value flat = tensor::CollapseShapeOp::create(b, loc, slice, rows);
    Value copied = buildColumns(b, expert, panel, flat);
    return tensor::ExpandShapeOp::create(b, loc, type, copied, rows);
  }

  Value buildColumns(OpBuilder &b, Value expert, Value panel, Value dest) {
    auto copy = [&](OpBuilder &b, int64_t numColumns) {
      return buildPanelCopy(b, loc, source, lanes, expert, panel, numColumns,
                            dest);
    };
    int64_t numLast = source.getLastColumns();
    if (numLast == kPanelColumns || source.getNumPanels() == 1)
      return copy(b, numLast);
    Value last = buildIndex(b, loc, source.getNumPanels() - 1);
    Value isLast =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, panel, last);
    auto yield = [&](int64_t numColumns) {
      return [&, numColumns](OpBuilder &b, Location) {
        scf::YieldOp::create(b, loc, copy(b, numColumns));
      };
    };
    return scf::IfOp::create(b, loc, isLast, yield(numLast),
                             yield(kPanelColumns))
        .getResult(0);
  }
};

struct PackToVectorPass : moe::impl::MoEPackToVectorBase<PackToVectorPass> {
  using MoEPackToVectorBase::MoEPackToVectorBase;

  void runOnOperation() override {
    SmallVector<linalg::PackOp> ops;
    getOperation()->walk([&](linalg::PackOp op) { ops.push_back(op); });
    if (ops.empty())
      return;
    FailureOr<CPUMachine> machine = describeCPU(getOperation(), isa);
    if (failed(machine))
      return signalPassFailure();
    IRRewriter rewriter(&getContext());
    for (linalg::PackOp op : ops) {
      std::optional<PanelSource> source = readPack(op);
      if (!source)
        continue;
      rewriter.setInsertionPoint(op);
      Value packed =
          PackBuilder(op, *source, machine->isa.lanes).build(rewriter);
      rewriter.replaceOp(op, packed);
    }
  }
};

} // namespace
