//===- WarpMatmul.cpp - What a warp does with a stage by mma.sync ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "WarpMatmul.h"

#include "TileCopy.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

/// Pieces of k that an mma.sync takes: 16 elements of 2 bytes, 8 of 4.
static constexpr int64_t kMmaPieces = 2;

WarpMatmul::WarpMatmul(KernelBuilder &b, const MatmulProblem &problem,
                       GPUMatmulAttr config, Value thread)
    : b(b), problem(problem), config(config),
      isF32(problem.elementType.isF32()),
      numWeights(static_cast<int64_t>(problem.weights.size())),
      rowFragments(config.getWarpTileRows() / kMmaRows),
      columnFragments(problem.getWeightColumns(config.getWarpTileColumns()) /
                      kMmaColumns),
      lane(b.rem(thread, kWarpSize)) {
  Value warp = b.div(thread, kWarpSize);
  warpRow = b.mul(b.rem(warp, config.getWarpRows()), config.getWarpTileRows());
  resultColumn =
      b.mul(b.div(warp, config.getWarpRows()), config.getWarpTileColumns());
  warpColumn = b.mul(resultColumn, problem.getColumnRatio());
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

int64_t WarpMatmul::getRowsBytes() const {
  return config.getTileRows() * kRowBytes;
}

int64_t WarpMatmul::getWeightBytes() const {
  return problem.getWeightColumns(config.getTileColumns()) * kRowBytes;
}

int64_t WarpMatmul::getStageBytes() const {
  return getRowsBytes() + numWeights * getWeightBytes();
}

/// Four matrices of 8 rows of 16 bytes; each lane names a row of one of them,
/// and gets word lane mod 4 of row lane / 4 of each.
WarpMatmul::Fragment WarpMatmul::loadMatrices(Value pointer,
                                              NVVM::MMALayout layout) {
  Type i32 = b.getI32Type();
  auto type =
      LLVM::LLVMStructType::getLiteral(b.getContext(), {i32, i32, i32, i32});
  auto shape = NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8);
  Value matrices = NVVM::LdMatrixOp::create(
      b, type, pointer, /*num=*/4, layout, shape, NVVM::LdStMatrixEltType::B16);
  Fragment fragment;
  for (int64_t i = 0; i < 4; ++i)
    fragment.push_back(
        LLVM::ExtractValueOp::create(b, matrices, ArrayRef<int64_t>{i}));
  return fragment;
}

/// Rows of the warp: lanes 0 … 15 name rows at `piece`, lanes 16 … 31 at the
/// next.
SmallVector<WarpMatmul::Parts> WarpMatmul::loadRows(Value stage,
                                                    int64_t piece) {
  Value ownPiece = b.add(b.div(lane, 16), piece);
  Value row = b.add(warpRow, b.rem(lane, 16));
  Value place =
      b.add(b.mul(row, kRowBytes), buildSwizzle(b, ownPiece, b.rem(lane, 8)));
  Value pointer = b.advance(stage, place);
  SmallVector<Parts> fragments;
  for (int64_t i = 0; i < rowFragments; ++i)
    fragments.push_back(split(loadMatrices(
        b.advance(pointer, i * kMmaRows * kRowBytes), NVVM::MMALayout::row)));
  return fragments;
}

/// Weights for 16 columns: the two registers of the first 8 columns, then those
/// of the next 8, so that the operand of each mma is a pair.
WarpMatmul::Fragment
WarpMatmul::loadWeightsAlongSum(Value tile, int64_t columns, int64_t piece) {
  Value inColumns = b.add(b.rem(lane, 8), b.mul(b.div(lane, 16), 8));
  Value ownPiece = b.add(b.rem(b.div(lane, 8), 2), piece);
  Value place = b.add(b.mul(b.add(warpColumn, inColumns), kRowBytes),
                      buildSwizzle(b, ownPiece, b.rem(lane, 8)));
  return loadMatrices(b.advance(b.advance(tile, place), columns * kRowBytes),
                      NVVM::MMALayout::row);
}

/// The same from panels with a row for each k, transposed on the way.
WarpMatmul::Fragment WarpMatmul::loadWeightsAlongColumns(Value tile,
                                                         int64_t columns,
                                                         int64_t piece) {
  int64_t pieceElements = problem.getPieceElements();
  Value ownPiece =
      b.add(b.add(b.div(warpColumn, pieceElements), b.div(lane, 16)),
            columns / pieceElements);
  Value panel = b.div(ownPiece, kPiecesPerRow);
  Value place =
      b.add(b.add(b.mul(panel, config.getTileSum() * kRowBytes),
                  b.mul(b.rem(lane, 16), kRowBytes)),
            buildSwizzle(b, b.rem(ownPiece, kPiecesPerRow), b.rem(lane, 8)));
  return loadMatrices(
      b.advance(b.advance(tile, place), piece * pieceElements * kRowBytes),
      NVVM::MMALayout::col);
}

/// The same for f32, which ldmatrix does not transpose. Lane 4·g + c reads
/// columns 2·g and 2·g + 1 of row c, then of row c + 4: they count as column g
/// of the first and of the second fragment. With pieces at p xor 2·(row mod 4),
/// the 16 lanes whose 8 bytes are read at once find them in different banks.
WarpMatmul::Fragment
WarpMatmul::loadWordsAlongColumns(Value tile, int64_t columns, int64_t piece) {
  constexpr int64_t kPieceWords = 4;
  Value inRow = b.rem(lane, 4), pair = b.div(lane, 4);
  Value ownPiece = b.add(b.add(b.div(warpColumn, kPieceWords), b.div(pair, 2)),
                         columns / kPieceWords);
  Value panel = b.div(ownPiece, kPiecesPerRow);
  Value inPiece = b.mul(b.rem(pair, 2), kPieceBytes / 2);
  Value swizzled = buildSwizzle(b, b.rem(ownPiece, kPiecesPerRow),
                                b.mul(inRow, kPanelPhaseOfWords));
  Value place = b.add(b.add(b.mul(panel, config.getTileSum() * kRowBytes),
                            b.mul(inRow, kRowBytes)),
                      b.add(swizzled, inPiece));
  Value pointer =
      b.advance(b.advance(tile, place), piece * kPieceWords * kRowBytes);
  auto type = VectorType::get({2}, b.getI32Type());
  Value upper = b.load(type, pointer);
  Value lower = b.load(type, b.advance(pointer, kPieceWords * kRowBytes));
  Fragment fragment;
  for (int64_t column = 0; column < 2; ++column)
    for (Value loaded : {upper, lower})
      fragment.push_back(vector::ExtractOp::create(b, loaded, column));
  return fragment;
}

WarpMatmul::Parts WarpMatmul::loadWeights(Value tile, int64_t columns,
                                          int64_t piece) {
  if (problem.sumIsLast)
    return split(loadWeightsAlongSum(tile, columns, piece));
  return split(isF32 ? loadWordsAlongColumns(tile, columns, piece)
                     : loadWeightsAlongColumns(tile, columns, piece));
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// mma.sync takes pairs of f16 as vectors, but pairs of bf16 as i32.
Value WarpMatmul::toOperand(Value word) {
  if (!problem.elementType.isF16())
    return word;
  return LLVM::BitcastOp::create(b, VectorType::get({2}, b.getF16Type()), word);
}

/// Of f32: big is x rounded to the 11 bits that tf32 has, in integers, as half
/// of the last place is added before the 13 bits below are cut off (ptxas makes
/// four instructions of cvt.rna). x − big is exact and has at most 12 bits;
/// small is its first 11. An infinity stays one in big; small of an infinity
/// and of NaN is NaN, whatever big became.
WarpMatmul::Parts WarpMatmul::split(const Fragment &words) {
  if (!isF32)
    return {llvm::map_to_vector<4>(
        words, [&](Value word) { return toOperand(word); })};
  constexpr int64_t kHalf = 0x1000, kMask = 0xffffe000;
  auto cut = [&](Value bits) {
    return b.bitAnd(bits, static_cast<int32_t>(kMask));
  };
  auto toFloat = [&](Value bits) {
    return arith::BitcastOp::create(b, b.getF32Type(), bits);
  };
  Parts parts(2);
  for (Value word : words) {
    Value big = cut(b.add(word, kHalf));
    Value rest = arith::SubFOp::create(b, toFloat(word), toFloat(big));
    parts[0].push_back(big);
    parts[1].push_back(cut(arith::BitcastOp::create(b, b.getI32Type(), rest)));
  }
  return parts;
}

/// sums + rows · weights, four sums a lane.
SmallVector<Value, 4> WarpMatmul::multiply(ValueRange rows, ValueRange weights,
                                           ValueRange sums) {
  Type f32 = b.getF32Type();
  auto type =
      LLVM::LLVMStructType::getLiteral(b.getContext(), {f32, f32, f32, f32});
  auto factor = problem.elementType.isF16()   ? NVVM::MMATypes::f16
                : problem.elementType.isF32() ? NVVM::MMATypes::tf32
                                              : NVVM::MMATypes::bf16;
  int64_t mmaSum = kMmaPieces * problem.getPieceElements();
  Value result = NVVM::MmaOp::create(
      b, type, rows, weights, sums,
      ArrayRef<int64_t>{kMmaRows, kMmaColumns, mmaSum}, std::nullopt,
      std::nullopt, std::array<NVVM::MMATypes, 2>{factor, factor},
      std::array<NVVM::MMALayout, 2>{NVVM::MMALayout::row,
                                     NVVM::MMALayout::col});
  SmallVector<Value, 4> results;
  for (int64_t i = 0; i < 4; ++i)
    results.push_back(
        LLVM::ExtractValueOp::create(b, result, ArrayRef<int64_t>(i)));
  return results;
}

/// Of f32. Products of different fragments follow each other so that none waits
/// for the one before.
void WarpMatmul::multiplySplit(ArrayRef<Factors> factors,
                               MutableArrayRef<Value> sums) {
  constexpr int64_t kBig = 0, kSmall = 1;
  constexpr std::pair<int64_t, int64_t> kTerms[] = {
      {kSmall, kBig}, {kBig, kSmall}, {kBig, kBig}};
  Value zero = arith::ConstantOp::create(b, b.getF32FloatAttr(0));
  SmallVector<SmallVector<Value, 4>> products(factors.size(), {4, zero});
  for (auto [ofRows, ofWeights] : kTerms)
    for (auto [product, of] : llvm::zip(products, factors))
      product = multiply((*of.rows)[ofRows], of.getWeights(ofWeights), product);
  for (auto [product, of] : llvm::zip(products, factors))
    for (auto [sum, more] : llvm::zip(sums.slice(of.place, 4), product))
      sum = arith::AddFOp::create(b, sum, more);
}

void WarpMatmul::multiplyFactors(ArrayRef<Factors> factors,
                                 MutableArrayRef<Value> sums) {
  if (isF32)
    return multiplySplit(factors, sums);
  for (const Factors &of : factors) {
    auto own = sums.slice(of.place, 4);
    llvm::copy(multiply((*of.rows)[0], of.getWeights(0), own), own.begin());
  }
}

void WarpMatmul::multiplyStage(Value stage, MutableArrayRef<Value> sums) {
  for (int64_t piece = 0; piece < kPiecesPerRow; piece += kMmaPieces) {
    // Loads stay behind those of the step before: ptxas would start them all at
    // once, and run out of registers.
    if (isF32 && piece > 0)
      b.syncWarp();
    SmallVector<Parts> rows = loadRows(stage, piece);
    for (int64_t p = 0; p < numWeights; ++p) {
      Value tile = b.advance(stage, getRowsBytes() + p * getWeightBytes());
      for (int64_t n = 0; n < columnFragments; n += 2) {
        Parts weights = loadWeights(tile, n * kMmaColumns, piece);
        SmallVector<Factors> factors;
        for (int64_t half = 0; half < 2; ++half)
          for (int64_t m = 0; m < rowFragments; ++m)
            factors.push_back(
                {&rows[m], &weights, half, indexOf(p, m, n + half)});
        multiplyFactors(factors, sums);
      }
    }
  }
}

//===----------------------------------------------------------------------===//
// Sums
//===----------------------------------------------------------------------===//

/// A lane has a row of a fragment, and the one 8 below.
Value WarpMatmul::getRow(int64_t row) const {
  return b.add(b.add(warpRow, b.div(lane, 4)),
               row / 2 * kMmaRows + row % 2 * 8);
}

/// Of a fragment, two neighbouring columns; of two whose columns alternate, two
/// times two.
Value WarpMatmul::getColumn(int64_t pair) const {
  Value place = b.rem(lane, 4);
  if (problem.alternates())
    return b.add(
        b.add(resultColumn, b.mul(place, problem.getLaneColumns().step)),
        pair * kMmaColumns);
  if (readsColumnPairs())
    return b.add(b.add(warpColumn, b.mul(place, 4)),
                 pair / 2 * 2 * kMmaColumns + pair % 2 * 2);
  return b.add(b.add(warpColumn, b.mul(place, 2)), pair * kMmaColumns);
}

/// Where columns of two products alternate, a pair of fragments has 8 columns
/// of results. Of 16 bits, a lane has both sums of one in each fragment; of
/// f32, the first fragment is of one product and the second of the other.
SmallVector<std::array<Value, 2>>
WarpMatmul::getPairs(ArrayRef<Value> sums, int64_t row, int64_t pair) const {
  auto sumOf = [&](int64_t weight, int64_t column, int64_t i) {
    return sums[indexOf(weight, row / 2, column) + row % 2 * 2 + i];
  };
  SmallVector<std::array<Value, 2>> pairs;
  for (int64_t which : problem.alternating) {
    if (readsColumnPairs())
      pairs.push_back(
          {sumOf(0, 2 * pair + which, 0), sumOf(0, 2 * pair + which, 1)});
    else
      pairs.push_back(
          {sumOf(0, 2 * pair, which), sumOf(0, 2 * pair + 1, which)});
  }
  if (problem.alternates())
    return pairs;
  for (int64_t p = 0; p < numWeights; ++p) {
    if (readsColumnPairs())
      pairs.push_back({sumOf(p, pair / 2 * 2, pair % 2),
                       sumOf(p, pair / 2 * 2 + 1, pair % 2)});
    else
      pairs.push_back({sumOf(p, pair, 0), sumOf(p, pair, 1)});
  }
  return pairs;
}
