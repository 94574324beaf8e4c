//===- GroupedMatmulToVector.cpp - Grouped matmuls as vector code ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Tasks, blocks and tiles; what happens in registers is in MicroKernel.cpp.
//
// In a block, columns are the outer loop and rows the inner one: the weights of
// a tile (6 × 2048 bf16 = 24 KB) stay in the first cache while the rows of the
// block stream by from the second, and every weight is read once from memory.
//
//===----------------------------------------------------------------------===//

#include "MicroKernel.h"
#include "VectorRegion.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/MoE/Utils/LoopBuilder.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEGROUPEDMATMULTOVECTOR
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

using Matmul = GroupedMatmulOp;

namespace {

class MatmulLowering {
public:
  MatmulLowering(OpBuilder &b, Matmul op, CPUMatmulAttr config)
      : op(op), loc(op.getLoc()), config(config), products(op.getProducts()),
        numColumns(op.getNumColumns()),
        numBlocks(llvm::divideCeil(numColumns, config.getBlockColumns())),
        zero(buildIndex(b, loc, 0)), one(buildIndex(b, loc, 1)) {}

  void lower(OpBuilder &b) {
    if (op.isCombining())
      lowerCombined(b);
    else
      lowerRows(b);
  }

private:
  Matmul op;
  Location loc;
  CPUMatmulAttr config;
  SmallVector<Matmul::Product> products;
  int64_t numColumns, numBlocks;
  Value zero, one;

  //===--------------------------------------------------------------------===//
  // Small builders
  //===--------------------------------------------------------------------===//

  Value index(OpBuilder &b, int64_t value) { return buildIndex(b, loc, value); }
  Value add(OpBuilder &b, Value x, Value y) {
    return arith::AddIOp::create(b, loc, x, y);
  }
  Value sub(OpBuilder &b, Value x, Value y) {
    return arith::SubIOp::create(b, loc, x, y);
  }
  Value mul(OpBuilder &b, Value x, Value y) {
    return arith::MulIOp::create(b, loc, x, y);
  }
  Value min(OpBuilder &b, Value x, Value y) {
    return arith::MinSIOp::create(b, loc, x, y);
  }
  /// A loop that carries nothing.
  void loop(OpBuilder &b, Value lower, Value upper, Value step,
            function_ref<void(OpBuilder &, Value)> body) {
    scf::ForOp::create(b, loc, lower, upper, step, ValueRange(),
                       [&](OpBuilder &b, Location, Value i, ValueRange) {
                         body(b, i);
                         scf::YieldOp::create(b, loc);
                       });
  }
  void parallel(OpBuilder &b, Value count,
                function_ref<void(OpBuilder &, Value)> body) {
    scf::ParallelOp::create(
        b, loc, ValueRange{zero}, ValueRange{count}, ValueRange{one},
        [&](OpBuilder &b, Location, ValueRange i) { body(b, i[0]); });
  }
  Value loadIndex(OpBuilder &b, Value buffer, ValueRange at) {
    Value id = memref::LoadOp::create(b, loc, buffer, at);
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
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
    Value active = alloc(b, {getAsOpFoldResult(count)}, b.getIndexType());
    Value numActive = buildFor(
        b, loc, zero, count, zero,
        [&](OpBuilder &b, Location, Value expert, ValueRange found) -> Carried {
          Value begin = loadIndex(b, op.getOffsets(), expert);
          Value end = loadIndex(b, op.getOffsets(), add(b, expert, one));
          Value hasRows = arith::CmpIOp::create(
              b, loc, arith::CmpIPredicate::slt, begin, end);
          memref::StoreOp::create(b, loc, expert, active, found[0]);
          return {arith::SelectOp::create(b, loc, hasRows,
                                          add(b, found[0], one), found[0])};
        })[0];
    return {active, numActive};
  }

  void lowerRows(OpBuilder &b) {
    ActiveExperts experts = buildActiveExperts(b);
    Value blocks = index(b, numBlocks);
    parallel(b, mul(b, experts.count, blocks), [&](OpBuilder &b, Value task) {
      Value expert = memref::LoadOp::create(
          b, loc, experts.list,
          ValueRange{arith::DivUIOp::create(b, loc, task, blocks)});
      Value block = arith::RemUIOp::create(b, loc, task, blocks);
      Block at = buildBlock(b, block);
      buildExpert(b, expert, at,
                  [&](OpBuilder &b, const Row &row, ValueRange vectors) {
                    storeRow(b, row, vectors);
                  });
    });
  }

  void lowerCombined(OpBuilder &b) {
    Value numTokens = memref::DimOp::create(b, loc, op.getSlots(), zero);
    Value choiceOf = buildChoiceOfRows(b);
    Value sums = alloc(b,
                       {b.getIndexAttr(numBlocks), getAsOpFoldResult(numTokens),
                        b.getIndexAttr(config.getBlockColumns())},
                       b.getF32Type());
    parallel(b, index(b, numBlocks), [&](OpBuilder &b, Value block) {
      Block at = buildBlock(b, block);
      Tokens tokens = {sums, block, numTokens, choiceOf};
      clearTokens(b, at, tokens);
      loop(b, zero, numExperts(b), one, [&](OpBuilder &b, Value expert) {
        buildExpert(b, expert, at,
                    [&](OpBuilder &b, const Row &row, ValueRange vectors) {
                      addToToken(b, tokens, row, vectors[0]);
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
  // A block of columns of an expert
  //===--------------------------------------------------------------------===//

  /// Columns [begin, end), and the scratch for their sums: products × rows ×
  /// columns.
  struct Block {
    Value begin, end, scratch;
  };

  Block buildBlock(OpBuilder &b, Value block) {
    Value width = index(b, config.getBlockColumns());
    Value begin = mul(b, block, width);
    Value end = min(b, add(b, begin, width), index(b, numColumns));
    auto type =
        MemRefType::get({static_cast<int64_t>(products.size()),
                         config.getBlockRows(), config.getBlockColumns()},
                        b.getF32Type());
    Value scratch =
        memref::AllocaOp::create(b, loc, type, b.getI64IntegerAttr(64));
    return {begin, end, scratch};
  }

  /// A row in a block: m, t and j, and its place in the scratch.
  struct Row {
    Value expert, row, place, column;
    OpFoldResult token, choice;
  };
  using Consumer = function_ref<void(OpBuilder &, const Row &, ValueRange)>;

  /// Calls `consume` for the rows of `expert` and each vector of columns of the
  /// block, with what the epilogue yields.
  void buildExpert(OpBuilder &b, Value expert, const Block &at,
                   Consumer consume) {
    Value begin = loadIndex(b, op.getOffsets(), expert);
    Value end = loadIndex(b, op.getOffsets(), add(b, expert, one));
    loop(b, begin, end, index(b, config.getBlockRows()),
         [&](OpBuilder &b, Value firstRow) {
           Value count =
               min(b, sub(b, end, firstRow), index(b, config.getBlockRows()));
           for (auto [p, product] : llvm::enumerate(products))
             buildProduct(b, expert, firstRow, count, at, p, product);
           buildEpilogue(b, expert, firstRow, count, at, consume);
         });
  }

  /// K split into equal parts of at most block_sum elements.
  int64_t partOf(int64_t length) const {
    int64_t numParts = llvm::divideCeil(length, config.getBlockSum());
    return llvm::alignTo(llvm::divideCeil(length, numParts), config.getStep());
  }

  void buildProduct(OpBuilder &b, Value expert, Value firstRow, Value count,
                    const Block &at, unsigned p,
                    const Matmul::Product &product) {
    bool isFirst = true;
    for (const Matmul::Term &term : product) {
      int64_t length = term.getLength(), part = partOf(length);
      for (int64_t start = 0; start < length; start += part) {
        int64_t size = std::min(part, length - start);
        Part sums = {term, p, start, size, /*accumulate=*/!isFirst};
        buildPart(b, expert, firstRow, count, at, sums);
        isFirst = false;
      }
    }
  }

  /// The part [start, start + size) of the sum of a term.
  struct Part {
    const Matmul::Term &term;
    unsigned product;
    int64_t start, size;
    bool accumulate;
  };

  void buildPart(OpBuilder &b, Value expert, Value firstRow, Value count,
                 const Block &at, const Part &part) {
    int64_t width = config.getTileColumns();
    int64_t remainder = numColumns % width;
    Value end = remainder == 0
                    ? at.end
                    : min(b, at.end, index(b, numColumns - remainder));
    loop(b, at.begin, end, index(b, width), [&](OpBuilder &b, Value column) {
      buildRowTiles(b, expert, firstRow, count, at, part, column, width);
    });
    if (remainder == 0)
      return;
    Value isLast = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                         at.end, index(b, numColumns));
    scf::IfOp::create(b, loc, isLast, [&](OpBuilder &b, Location) {
      buildRowTiles(b, expert, firstRow, count, at, part,
                    index(b, numColumns - remainder), remainder);
      scf::YieldOp::create(b, loc);
    });
  }

  /// All rows of a block for one tile of columns: whole tiles, then a switch
  /// over the number of rows of the last one.
  ///
  /// Each tile asks for columns of the next tile's weights: the last one, which
  /// may be the only one, for all; one before it for half of them where rows
  /// are few, for one where they are many, by turns. So memory works as long as
  /// the tiles compute. To ask for all at each step takes the loads' turns
  /// (measured: 15 % at 64 rows and more), for all at once fills the queue of
  /// misses, and rows from the second cache then wait behind it.
  void buildRowTiles(OpBuilder &b, Value expert, Value firstRow, Value count,
                     const Block &at, const Part &part, Value column,
                     int64_t width) {
    int64_t height = config.getTileRows();
    auto build = [&](OpBuilder &b, Value place, int64_t numRows,
                     int64_t numPrefetched) {
      buildTile(b, expert, firstRow, at, part,
                {place, column, numRows, width, numPrefetched});
    };
    Value last =
        arith::RemUIOp::create(b, loc, sub(b, count, one), index(b, height));
    Value whole = sub(b, sub(b, count, one), last);
    auto wholeTiles = [&](OpBuilder &b, int64_t numPrefetched) {
      loop(b, zero, whole, index(b, height), [&](OpBuilder &b, Value place) {
        build(b, place, height, numPrefetched);
      });
      scf::YieldOp::create(b, loc);
    };
    Value areFew = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                         whole, index(b, width * height));
    scf::IfOp::create(
        b, loc, areFew,
        [&](OpBuilder &b, Location) {
          wholeTiles(b, llvm::divideCeil(width, 2));
        },
        [&](OpBuilder &b, Location) { wholeTiles(b, 1); });
    auto cases = llvm::to_vector(llvm::seq<int64_t>(0, height - 1));
    auto rest = scf::IndexSwitchOp::create(b, loc, TypeRange(), last, cases,
                                           cases.size());
    auto fill = [&](Region &region, int64_t numRows) {
      OpBuilder::InsertionGuard guard(b);
      b.createBlock(&region);
      build(b, whole, numRows, width);
      scf::YieldOp::create(b, loc);
    };
    for (int64_t before : cases)
      fill(rest.getCaseRegions()[before], before + 1);
    fill(rest.getDefaultRegion(), height);
  }

  /// `height` rows from `place` on and `width` columns from `column` on.
  struct Tile {
    Value place, column;
    int64_t height, width, numPrefetched;
  };

  /// The columns of the next tile that a tile asks for: the tiles of rows take
  /// turns.
  Value prefetchedColumn(OpBuilder &b, const Tile &tile) {
    Value turn = arith::DivUIOp::create(b, loc, tile.place,
                                        index(b, config.getTileRows()));
    Value numTurns = index(b, llvm::divideCeil(tile.width, tile.numPrefetched));
    Value offset = mul(b, arith::RemUIOp::create(b, loc, turn, numTurns),
                       index(b, tile.numPrefetched));
    return add(b, add(b, tile.column, index(b, tile.width)), offset);
  }

  void buildTile(OpBuilder &b, Value expert, Value firstRow, const Block &at,
                 const Part &part, const Tile &position) {
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = expert;
    dims[Matmul::kColumn] = position.column;
    SmallVector<OpFoldResult> rows, tokens;
    for (int64_t i = 0; i < position.height; ++i) {
      Value row = add(b, add(b, firstRow, position.place), index(b, i));
      rows.push_back(row);
      tokens.push_back(part.term.isGathered() ? tokenOf(b, row).token
                                              : b.getIndexAttr(0));
    }
    int64_t tail = part.size % config.getStep();
    TileSums tile = {part.term,
                     config,
                     dims,
                     rows,
                     tokens,
                     position.width,
                     index(b, part.start),
                     index(b, part.start + part.size - tail),
                     tail,
                     {prefetchedColumn(b, position), position.numPrefetched}};
    Value local = sub(b, position.column, at.begin);
    for (auto [i, sums] : llvm::enumerate(buildTileSums(b, loc, tile)))
      storeSums(
          b, sums, position.width, part, at.scratch,
          {index(b, part.product), add(b, position.place, index(b, i)), local});
  }

  /// Stores or adds the first `width` lanes of `sums`.
  void storeSums(OpBuilder &b, Value sums, int64_t width, const Part &part,
                 Value scratch, ValueRange at) {
    auto type = cast<VectorType>(sums.getType());
    Value mask;
    if (width != type.getNumElements())
      mask = vector::ConstantMaskOp::create(
          b, loc, VectorType::get(type.getShape(), b.getI1Type()), {width});
    if (part.accumulate) {
      Value before;
      if (mask) {
        Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
        before =
            vector::MaskedLoadOp::create(b, loc, type, scratch, at, mask, none);
      } else {
        before = vector::LoadOp::create(b, loc, type, scratch, at);
      }
      sums = arith::AddFOp::create(b, loc, before, sums);
    }
    if (mask)
      vector::MaskedStoreOp::create(b, loc, scratch, at, mask, sums);
    else
      vector::StoreOp::create(b, loc, sums, scratch, at);
  }

  /// t and j of a row.
  struct TokenOfRow {
    OpFoldResult token, choice;
  };

  TokenOfRow tokenOf(OpBuilder &b, Value row) {
    if (!op.getSource() || !op.getTopK())
      return {b.getIndexAttr(0), b.getIndexAttr(0)};
    Value choice = loadIndex(b, op.getSource(), row);
    Value topK = index(b, *op.getTopK());
    Value token = arith::DivUIOp::create(b, loc, choice, topK);
    Value position = arith::RemUIOp::create(b, loc, choice, topK);
    return {getAsOpFoldResult(token), getAsOpFoldResult(position)};
  }

  //===--------------------------------------------------------------------===//
  // Epilogue
  //===--------------------------------------------------------------------===//

  /// Which lanes are columns; null where N is a multiple of them.
  Value columnMask(OpBuilder &b, Value column) {
    if (numColumns % config.getLanes() == 0)
      return Value();
    auto type = VectorType::get({config.getLanes()}, b.getI1Type());
    Value rest = sub(b, index(b, numColumns), column);
    return vector::CreateMaskOp::create(b, loc, type, rest);
  }

  Value loadColumns(OpBuilder &b, Value buffer, ValueRange at, Value mask) {
    Type elementType = cast<MemRefType>(buffer.getType()).getElementType();
    auto type = VectorType::get({config.getLanes()}, elementType);
    if (!mask)
      return vector::LoadOp::create(b, loc, type, buffer, at);
    Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    return vector::MaskedLoadOp::create(b, loc, type, buffer, at, mask, none);
  }

  void storeColumns(OpBuilder &b, Value vector, Value buffer, ValueRange at,
                    Value mask) {
    if (mask)
      vector::MaskedStoreOp::create(b, loc, buffer, at, mask, vector);
    else
      vector::StoreOp::create(b, loc, vector, buffer, at);
  }

  void buildEpilogue(OpBuilder &b, Value expert, Value firstRow, Value count,
                     const Block &at, Consumer consume) {
    loop(b, zero, count, one, [&](OpBuilder &b, Value place) {
      Value row = add(b, firstRow, place);
      TokenOfRow of = tokenOf(b, row);
      loop(b, at.begin, at.end, index(b, config.getLanes()),
           [&](OpBuilder &b, Value column) {
             Row current = {expert, row, place, column, of.token, of.choice};
             consume(b, current, buildVectors(b, current, at));
           });
    });
  }

  /// What the epilogue yields for `lanes` columns of a row.
  SmallVector<Value> buildVectors(OpBuilder &b, const Row &row,
                                  const Block &at) {
    SmallVector<Value> args;
    Value local = sub(b, row.column, at.begin);
    for (size_t p = 0; p < products.size(); ++p)
      // The scratch is as wide as the block, so lanes beyond N are there.
      args.push_back(loadColumns(
          b, at.scratch, ValueRange{index(b, p), row.place, local}, Value()));
    Value mask = columnMask(b, row.column);
    MatmulIndices dims(Matmul::kNumDims, b.getIndexAttr(0));
    dims[Matmul::kExpert] = row.expert;
    dims[Matmul::kRow] = row.row;
    dims[Matmul::kToken] = row.token;
    dims[Matmul::kChoice] = row.choice;
    dims[Matmul::kColumn] = row.column;
    auto maps = op.getExtraMaps().getAsValueRange<AffineMapAttr>();
    for (auto [extra, map] : llvm::zip(op.getExtras(), maps)) {
      SmallVector<Value> indices = buildIndices(b, loc, map, dims);
      if (map.isFunctionOfDim(Matmul::kColumn)) {
        args.push_back(loadColumns(b, extra, indices, mask));
        continue;
      }
      Value scalar = memref::LoadOp::create(b, loc, extra, indices);
      args.push_back(vector::BroadcastOp::create(
          b, loc, VectorType::get({config.getLanes()}, scalar.getType()),
          scalar));
    }
    return inlineOnVectors(b, loc, op.getEpilogue(), args, config.getLanes());
  }

  void storeRow(OpBuilder &b, const Row &row, ValueRange vectors) {
    Value mask = columnMask(b, row.column);
    for (auto [vector, init] : llvm::zip(vectors, op.getInits()))
      storeColumns(b, vector, init, ValueRange{row.row, row.column}, mask);
  }

  //===--------------------------------------------------------------------===//
  // Combine
  //===--------------------------------------------------------------------===//

  /// Sums of tokens, blocks × T × columns, and the choice of each row.
  struct Tokens {
    Value sums, block, numTokens, choiceOf;
  };

  Value extendToF32(OpBuilder &b, Value value) {
    Type type = value.getType();
    Type f32 = b.getF32Type();
    if (auto vector = dyn_cast<VectorType>(type))
      f32 = vector.clone(f32);
    return type == f32 ? value : arith::ExtFOp::create(b, loc, f32, value);
  }

  /// Loops over the tokens and the vectors of columns of a block.
  void
  forTokens(OpBuilder &b, const Block &at, const Tokens &tokens,
            function_ref<void(OpBuilder &, Value, Value, ValueRange)> body) {
    loop(b, zero, tokens.numTokens, one, [&](OpBuilder &b, Value token) {
      loop(b, at.begin, at.end, index(b, config.getLanes()),
           [&](OpBuilder &b, Value column) {
             Value local = sub(b, column, at.begin);
             body(b, token, column, ValueRange{tokens.block, token, local});
           });
    });
  }

  void clearTokens(OpBuilder &b, const Block &at, const Tokens &tokens) {
    auto type = VectorType::get({config.getLanes()}, b.getF32Type());
    Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    forTokens(b, at, tokens, [&](OpBuilder &b, Value, Value, ValueRange place) {
      vector::StoreOp::create(b, loc, none, tokens.sums, place);
    });
  }

  /// sums[t, n…] = weights[t, j] · vector + sums[t, n…]
  void addToToken(OpBuilder &b, const Tokens &tokens, const Row &row,
                  Value vector) {
    Value choice = loadIndex(b, tokens.choiceOf, row.row);
    Value isTaken =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, choice, zero);
    scf::IfOp::create(b, loc, isTaken, [&](OpBuilder &b, Location) {
      Value topK = memref::DimOp::create(b, loc, op.getSlots(), one);
      Value token = arith::DivUIOp::create(b, loc, choice, topK);
      Value position = arith::RemUIOp::create(b, loc, choice, topK);
      Value weight =
          extendToF32(b, memref::LoadOp::create(b, loc, op.getWeights(),
                                                ValueRange{token, position}));
      Value rows = extendToF32(b, vector);
      Value weights =
          vector::BroadcastOp::create(b, loc, rows.getType(), weight);
      Value local = arith::RemUIOp::create(b, loc, row.column,
                                           index(b, config.getBlockColumns()));
      SmallVector<Value> place = {tokens.block, token, local};
      Value before = loadColumns(b, tokens.sums, place, Value());
      Value sum = vector::FMAOp::create(b, loc, weights, rows, before);
      vector::StoreOp::create(b, loc, sum, tokens.sums, place);
      scf::YieldOp::create(b, loc);
    });
  }

  /// out[t, n…] = sums [+ base], rounded once.
  void storeTokens(OpBuilder &b, const Block &at, const Tokens &tokens) {
    Value out = op.getInits()[0];
    Type elementType = cast<MemRefType>(out.getType()).getElementType();
    forTokens(b, at, tokens,
              [&](OpBuilder &b, Value token, Value column, ValueRange place) {
                Value mask = columnMask(b, column);
                Value sum = loadColumns(b, tokens.sums, place, Value());
                if (op.getBase())
                  sum = arith::AddFOp::create(
                      b, loc, sum,
                      extendToF32(b, loadColumns(b, op.getBase(),
                                                 {token, column}, mask)));
                if (!elementType.isF32())
                  sum = arith::TruncFOp::create(
                      b, loc, VectorType::get({config.getLanes()}, elementType),
                      sum);
                storeColumns(b, sum, out, {token, column}, mask);
              });
  }
};

struct GroupedMatmulToVectorPass
    : moe::impl::MoEGroupedMatmulToVectorBase<GroupedMatmulToVectorPass> {
  void runOnOperation() override {
    SmallVector<std::pair<Matmul, CPUMatmulAttr>> configured;
    getOperation()->walk([&](Matmul op) {
      auto config = op->getAttrOfType<CPUMatmulAttr>(CPUMatmulAttr::kName);
      if (config && op.hasPureBufferSemantics())
        configured.emplace_back(op, config);
    });
    for (auto [op, config] : configured) {
      OpBuilder builder(op);
      MatmulLowering(builder, op, config).lower(builder);
      op->erase();
    }
  }
};

} // namespace
