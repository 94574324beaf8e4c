//===- GroupedMatmulToVector.cpp - Grouped matmuls as vector code ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Tasks, epilogue and combine; the sums between them are in MatmulBlock.cpp.
//
//===----------------------------------------------------------------------===//

#include "AMXBlock.h"
#include "ColumnBlock.h"
#include "ColumnVectors.h"
#include "MatmulBlock.h"
#include "VectorAccess.h"
#include "VectorRegion.h"
#include "WeightLayout.h"
#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Utils/PackedWeights.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEGROUPEDMATMULTOVECTOR
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {
class MatmulLowering : MatmulBuilder {
public:
  MatmulLowering(OpBuilder &b, Matmul op, CPUMatmulAttr config)
      : MatmulBuilder(b, op, config),
        numBlocks(llvm::divideCeil(numColumns, config.getBlockColumns())) {}

  void lower(OpBuilder &b) {
    if (op.isCombining())
      lowerCombined(b);
    else
      lowerRows(b);
  }

private:
  int64_t numBlocks;

  void parallel(OpBuilder &b, Value count,
                function_ref<void(OpBuilder &, Value)> body) {
    scf::ParallelOp::create(
        b, loc, ValueRange{zero}, ValueRange{count}, ValueRange{one},
        [&](OpBuilder &b, Location, ValueRange i) { body(b, i[0]); });
  }

  /// Freed by the deallocation pipeline, which runs later.
  Value alloc(OpBuilder &b, ArrayRef<OpFoldResult> sizes, Type type) {
    SmallVector<Value> dynamicSizes;
    SmallVector<int64_t> shape;
    dispatchIndexOpFoldResults(sizes, dynamicSizes, shape);
    return memref::AllocOp::create(b, loc, MemRefType::get(shape, type),
                                   dynamicSizes, b.getI64IntegerAttr(64));
  }

  //===--------------------------------------------------------------------===//
  // Tasks
  //===--------------------------------------------------------------------===//

  Value numExperts(OpBuilder &b) {
    return sub(b, memref::DimOp::create(b, loc, op.getOffsets(), zero), one);
  }

  /// The experts that have rows: an empty one costs two loads, not a task for
  /// each block of columns.
  struct ActiveExperts {
    Value list, count;
  };

  ActiveExperts buildActiveExperts(OpBuilder &b) {
    Value count = numExperts(b);
    Value active = alloc(b, {getAsOpFoldResult(count)}, b.getI32Type());
    Value numActive = buildFor(
        b, loc, zero, count, zero,
        [&](OpBuilder &b, Location, Value expert, ValueRange found) -> Carried {
          Value begin = loadIndex(b, op.getOffsets(), expert);
          Value end = loadIndex(b, op.getOffsets(), add(b, expert, one));
          Value hasRows = arith::CmpIOp::create(
              b, loc, arith::CmpIPredicate::slt, begin, end);
          Value id = arith::IndexCastOp::create(b, loc, b.getI32Type(), expert);
          memref::StoreOp::create(b, loc, id, active, found[0]);
          return {arith::SelectOp::create(b, loc, hasRows,
                                          add(b, found[0], one), found[0])};
        })[0];
    return {active, numActive};
  }

  void lowerRows(OpBuilder &b) {
    ActiveExperts experts = buildActiveExperts(b);
    Value blocks = index(b, numBlocks);
    parallel(b, mul(b, experts.count, blocks), [&](OpBuilder &b, Value task) {
      Value expert =
          loadIndex(b, experts.list,
                    arith::DivUIOp::create(b, loc, task, blocks).getResult());
      Value block = arith::RemUIOp::create(b, loc, task, blocks);
      MatmulBlock at = buildBlock(b, *this, block);
      buildExpert(b, expert, /*nextExpert=*/Value(), at,
                  [&](OpBuilder &b, const Row &row) {
                    SmallVector<Value> extras = loadRowExtras(b, row);
                    forColumns(b, at, [&](OpBuilder &b, Value column) {
                      storeRow(b, row, column,
                               buildVectors(b, row, extras, column, at));
                    });
                  });
    });
  }

  void lowerCombined(OpBuilder &b) {
    Value numTokens = memref::DimOp::create(b, loc, op.getSlots(), zero);
    Value choiceOf = buildChoiceOfRows(b);
    ActiveExperts experts = buildActiveExperts(b);
    Value sums = alloc(b,
                       {b.getIndexAttr(numBlocks), getAsOpFoldResult(numTokens),
                        b.getIndexAttr(config.getBlockColumns())},
                       b.getF32Type());
    parallel(b, index(b, numBlocks), [&](OpBuilder &b, Value block) {
      MatmulBlock at = buildBlock(b, *this, block);
      Tokens tokens = {sums, block, numTokens, choiceOf};
      clearTokens(b, at, tokens);
      loop(b, zero, experts.count, one, [&](OpBuilder &b, Value i) {
        Value last = sub(b, experts.count, one);
        Value expert = loadIndex(b, experts.list, i);
        Value next = loadIndex(b, experts.list, min(b, add(b, i, one), last));
        buildExpert(b, expert, next, at, [&](OpBuilder &b, const Row &row) {
          addToToken(b, at, tokens, row);
        });
      });
      storeTokens(b, at, tokens);
    });
  }

  /// t·k + j of each row, from the slots; −1 for a row that none of them names.
  Value buildChoiceOfRows(OpBuilder &b) {
    Value numTokens = memref::DimOp::create(b, loc, op.getSlots(), zero);
    Value topK = memref::DimOp::create(b, loc, op.getSlots(), one);
    Value numRows = memref::DimOp::create(
        b, loc, op.getSource() ? op.getSource() : products[0][0].lhs, zero);
    Value choiceOf = alloc(b, {getAsOpFoldResult(numRows)}, b.getI32Type());
    loop(b, zero, numRows, one, [&](OpBuilder &b, Value row) {
      memref::StoreOp::create(b, loc, buildI32(b, loc, -1), choiceOf, row);
    });
    loop(b, zero, numTokens, one, [&](OpBuilder &b, Value token) {
      loop(b, zero, topK, one, [&](OpBuilder &b, Value choice) {
        Value slot = loadIndex(b, op.getSlots(), {token, choice});
        // Also false for −1.
        Value inside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                             slot, numRows);
        scf::IfOp::create(b, loc, inside, [&](OpBuilder &b, Location) {
          Value position = add(b, mul(b, token, topK), choice);
          Value id =
              arith::IndexCastOp::create(b, loc, b.getI32Type(), position);
          memref::StoreOp::create(b, loc, id, choiceOf, slot);
          scf::YieldOp::create(b, loc);
        });
      });
    });
    return choiceOf;
  }

  //===--------------------------------------------------------------------===//
  // Epilogue
  //===--------------------------------------------------------------------===//

  /// A row in a block: m, t and j, and its place in the scratch.
  struct Row {
    Value expert, row, place;
    OpFoldResult token, choice;
  };
  using Consumer = function_ref<void(OpBuilder &, const Row &)>;

  /// Computes the rows of `expert` for the block, and calls `consume` for each.
  void buildExpert(OpBuilder &b, Value expert, Value nextExpert,
                   const MatmulBlock &at, Consumer consume) {
    Value begin = loadIndex(b, op.getOffsets(), expert);
    Value end = loadIndex(b, op.getOffsets(), add(b, expert, one));
    Value blockRows = rowsOfBlock(b, sub(b, end, begin));
    loop(b, begin, end, blockRows, [&](OpBuilder &b, Value firstRow) {
      Value count = min(b, sub(b, end, firstRow), blockRows);
      buildBlockSums(b, *this, at, {expert, firstRow, count, nextExpert});
      buildEpilogue(b, expert, firstRow, count, consume);
    });
  }

  /// An expert's rows in blocks of about equal height, whole tiles: each block
  /// reads all weights, and a last one of few rows would wait for them.
  Value rowsOfBlock(OpBuilder &b, Value numRows) {
    auto ceilDiv = [&](Value x, Value y) -> Value {
      return arith::CeilDivUIOp::create(b, loc, x, y);
    };
    Value height = index(b, config.getTileRows());
    Value numBlocks = ceilDiv(numRows, index(b, config.getBlockRows()));
    return mul(b, ceilDiv(ceilDiv(numRows, numBlocks), height), height);
  }

  Value loadColumns(OpBuilder &b, Value buffer, ValueRange at, Value mask) {
    return loadVector(b, loc, buffer, at, config.getLanes(), mask);
  }

  /// Which lanes are columns; null where N is a multiple of them.
  Value columnMask(OpBuilder &b, Value column) {
    Value rest = numColumnsFrom(b, column);
    if (!rest)
      return Value();
    auto type = VectorType::get({config.getLanes()}, b.getI1Type());
    return vector::CreateMaskOp::create(b, loc, type, rest);
  }

  void buildEpilogue(OpBuilder &b, Value expert, Value firstRow, Value count,
                     Consumer consume) {
    loop(b, zero, count, one, [&](OpBuilder &b, Value place) {
      Value row = add(b, firstRow, place);
      TokenOfRow of = tokenOf(b, row);
      consume(b, {expert, row, place, of.token, of.choice});
    });
  }

  /// Loops over the vectors of columns of a block.
  void forColumns(OpBuilder &b, const MatmulBlock &at,
                  function_ref<void(OpBuilder &, Value)> body) {
    loop(b, at.begin, at.end, index(b, config.getLanes()), body);
  }

  MatmulIndices dimsOf(OpBuilder &b, const Row &row) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = row.expert;
    dims[Matmul::kRow] = row.row;
    dims[Matmul::kToken] = row.token;
    dims[Matmul::kChoice] = row.choice;
    return dims;
  }

  auto getExtras() {
    return llvm::zip_equal(op.getExtras(),
                           op.getExtraMaps().getAsValueRange<AffineMapAttr>());
  }

  /// The extras that are the same for all columns of a row; null for others.
  /// Loaded here: stores to the columns might change them, for all that LLVM
  /// knows, and it would load them for each vector.
  SmallVector<Value> loadRowExtras(OpBuilder &b, const Row &row) {
    SmallVector<Value> values;
    MatmulIndices dims = dimsOf(b, row);
    for (auto [extra, map] : getExtras()) {
      Value &value = values.emplace_back();
      if (map.isFunctionOfDim(Matmul::kColumn))
        continue;
      Value scalar = memref::LoadOp::create(b, loc, extra,
                                            buildIndices(b, loc, map, dims));
      value = vector::BroadcastOp::create(
          b, loc, VectorType::get({config.getLanes()}, scalar.getType()),
          scalar);
    }
    return values;
  }

  /// What the epilogue yields for `lanes` columns of a row.
  SmallVector<Value> buildVectors(OpBuilder &b, const Row &row,
                                  ArrayRef<Value> rowExtras, Value column,
                                  const MatmulBlock &at) {
    SmallVector<Value> args;
    Value local = sub(b, column, at.begin);
    for (size_t p = 0; p < products.size(); ++p)
      // The scratch is as wide as the block, so lanes beyond N are there.
      args.push_back(loadColumns(
          b, at.scratch, ValueRange{index(b, p), row.place, local}, Value()));
    MatmulIndices dims = dimsOf(b, row);
    dims[Matmul::kColumn] = column;
    for (auto [i, each] : llvm::enumerate(getExtras())) {
      auto [extra, map] = each;
      Value value = rowExtras[i];
      if (!value)
        value = loadColumnVector(b, loc, extra, map, dims, config.getLanes(),
                                 numColumnsFrom(b, column));
      args.push_back(value);
    }
    return inlineOnVectors(b, loc, op.getEpilogue(), args, config.getLanes());
  }

  void storeRow(OpBuilder &b, const Row &row, Value column,
                ValueRange vectors) {
    Value mask = columnMask(b, column);
    for (auto [vector, init] : llvm::zip(vectors, op.getInits()))
      storeVector(b, loc, vector, init, ValueRange{row.row, column}, mask);
  }

  //===--------------------------------------------------------------------===//
  // Combine
  //===--------------------------------------------------------------------===//

  /// Sums of tokens, blocks × T × columns, and the choice of each row.
  struct Tokens {
    Value sums, block, numTokens, choiceOf;
  };

  /// Loops over the tokens and the vectors of columns of a block.
  void
  forTokens(OpBuilder &b, const MatmulBlock &at, const Tokens &tokens,
            function_ref<void(OpBuilder &, Value, Value, ValueRange)> body) {
    loop(b, zero, tokens.numTokens, one, [&](OpBuilder &b, Value token) {
      forColumns(b, at, [&](OpBuilder &b, Value column) {
        Value local = sub(b, column, at.begin);
        body(b, token, column, ValueRange{tokens.block, token, local});
      });
    });
  }

  void clearTokens(OpBuilder &b, const MatmulBlock &at, const Tokens &tokens) {
    auto type = VectorType::get({config.getLanes()}, b.getF32Type());
    Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    forTokens(b, at, tokens, [&](OpBuilder &b, Value, Value, ValueRange place) {
      vector::StoreOp::create(b, loc, none, tokens.sums, place);
    });
  }

  /// The token whose sums a row is added to soon; any where none is.
  Value tokenOfLaterRow(OpBuilder &b, const Tokens &tokens, Value row) {
    // Fewer rows were late: at 4096 tokens of Qwen3's shape two made the layer
    // 1.02 times as fast, four 1.035 times.
    constexpr int64_t kRowsAhead = 4;
    Value end = memref::DimOp::create(b, loc, tokens.choiceOf, zero);
    Value later = min(b, add(b, row, index(b, kRowsAhead)), sub(b, end, one));
    Value choice = loadIndex(b, tokens.choiceOf, later);
    Value topK = memref::DimOp::create(b, loc, op.getSlots(), one);
    Value token = arith::DivUIOp::create(b, loc, choice, topK);
    // −1, too, is beyond all tokens.
    return arith::MinUIOp::create(b, loc, token, sub(b, tokens.numTokens, one));
  }

  /// sums[t, n…] = weights[t, j] · what the epilogue yields + sums[t, n…]
  ///
  /// An expert's tokens are anywhere, and the sums of thousands are not in the
  /// second cache: each row asks for a later one's.
  void addToToken(OpBuilder &b, const MatmulBlock &at, const Tokens &tokens,
                  const Row &row) {
    Value choice = loadIndex(b, tokens.choiceOf, row.row);
    Value isTaken =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, choice, zero);
    scf::IfOp::create(b, loc, isTaken, [&](OpBuilder &b, Location) {
      Value topK = memref::DimOp::create(b, loc, op.getSlots(), one);
      Value token = arith::DivUIOp::create(b, loc, choice, topK);
      Value position = arith::RemUIOp::create(b, loc, choice, topK);
      Value weight = buildExtensionToF32(
          b, loc,
          memref::LoadOp::create(b, loc, op.getWeights(),
                                 ValueRange{token, position}));
      Value weights = vector::BroadcastOp::create(
          b, loc, VectorType::get({config.getLanes()}, b.getF32Type()), weight);
      Value later = tokenOfLaterRow(b, tokens, row.row);
      SmallVector<Value> extras = loadRowExtras(b, row);
      forColumns(b, at, [&](OpBuilder &b, Value column) {
        Value local = sub(b, column, at.begin);
        buildPrefetch(b, loc, tokens.sums, {tokens.block, later, local},
                      /*toFirstCache=*/true);
        Value rows = buildExtensionToF32(
            b, loc, buildVectors(b, row, extras, column, at)[0]);
        SmallVector<Value> place = {tokens.block, token, local};
        Value before = loadColumns(b, tokens.sums, place, Value());
        Value sum = vector::FMAOp::create(b, loc, weights, rows, before);
        vector::StoreOp::create(b, loc, sum, tokens.sums, place);
      });
      scf::YieldOp::create(b, loc);
    });
  }

  /// out[t, n…] = sums [+ base], rounded once.
  void storeTokens(OpBuilder &b, const MatmulBlock &at, const Tokens &tokens) {
    Value out = op.getInits()[0];
    Type elementType = cast<MemRefType>(out.getType()).getElementType();
    forTokens(b, at, tokens,
              [&](OpBuilder &b, Value token, Value column, ValueRange place) {
                Value mask = columnMask(b, column);
                Value sum = loadColumns(b, tokens.sums, place, Value());
                if (op.getBase())
                  sum = arith::AddFOp::create(
                      b, loc, sum,
                      buildExtensionToF32(
                          b, loc,
                          loadColumns(b, op.getBase(), {token, column}, mask)));
                if (!elementType.isF32())
                  sum = arith::TruncFOp::create(
                      b, loc, VectorType::get({config.getLanes()}, elementType),
                      sum);
                storeVector(b, loc, sum, out, {token, column}, mask);
              });
  }
};

/// Blocks of columns are whole tiles, which weights along n make wider.
LogicalResult checkColumnBlocks(Matmul op, CPUMatmulAttr config) {
  SmallVector<Matmul::Product> products = op.getProducts();
  for (const ColumnGroup &group : findColumnGroups(products)) {
    int64_t width = ColumnShape(config, group).getColumnsOfTile();
    if (config.getBlockColumns() % width != 0)
      return op.emitOpError("has a lowering_config with block_columns = ")
             << config.getBlockColumns() << ", but weights with n last make a "
             << "tile of " << width << " columns; use a multiple of " << width;
  }
  return success();
}

/// The tiles of packed weights are panels, which lie in one piece.
LogicalResult checkPanels(Matmul op, CPUMatmulAttr config) {
  bool hasPacked = false, hasOthers = false;
  for (const Matmul::Product &product : op.getProducts())
    for (const Matmul::Term &term : product) {
      (isPacked(term) ? hasPacked : hasOthers) = true;
      auto type = cast<MemRefType>(term.getWeight().getType());
      if (isPacked(term) && !type.getLayout().isIdentity())
        return op.emitOpError("has packed weights of type ")
               << type << ", which has gaps; pass the whole array";
    }
  if (!hasPacked)
    return success();
  if (hasOthers)
    return op.emitOpError("has a lowering_config, and some of its weights are "
                          "packed and others are not; pack all, or none");
  int64_t width = config.getTileColumns() * config.getLanes();
  if (!config.usesAMX() && width != kPanelColumns)
    return op.emitOpError("has a lowering_config with tile_columns · lanes = ")
           << width << ", but a panel of packed weights has " << kPanelColumns
           << " columns; use tile_columns = "
           << kPanelColumns / config.getLanes();
  if (config.getBlockColumns() % kPanelColumns != 0)
    return op.emitOpError("has a lowering_config with block_columns = ")
           << config.getBlockColumns() << ", but a panel of packed weights has "
           << kPanelColumns << " columns; use a multiple of them";
  return success();
}

/// A pinned kernel may be none for these factors.
LogicalResult checkKernel(Matmul op, CPUMatmulAttr config) {
  std::string obstacle;
  if (config.usesAMX())
    obstacle = findAMXObstacle(op);
  else if (config.usesBf16Dot() && !multipliesBf16(op))
    obstacle = "not all rows and weights are bf16";
  if (obstacle.empty())
    return success();
  return op.emitOpError("has a lowering_config with kernel = ")
         << stringifyCPUKernel(config.getKernel()) << ", but " << obstacle
         << "; use another kernel";
}

struct GroupedMatmulToVectorPass
    : moe::impl::MoEGroupedMatmulToVectorBase<GroupedMatmulToVectorPass> {
  void runOnOperation() override {
    SmallVector<std::pair<Matmul, CPUMatmulAttr>> configured;
    getOperation()->walk([&](Matmul op) {
      auto config =
          op->getAttrOfType<CPUMatmulAttr>(LoweringConfigInterface::kName);
      if (config && op.hasPureBufferSemantics())
        configured.emplace_back(op, config);
    });
    for (auto [op, config] : configured) {
      if (failed(checkKernel(op, config)) ||
          failed(checkColumnBlocks(op, config)) ||
          failed(checkPanels(op, config)))
        return signalPassFailure();
      OpBuilder builder(op);
      MatmulLowering(builder, op, config).lower(builder);
      op->erase();
    }
  }
};

} // namespace
