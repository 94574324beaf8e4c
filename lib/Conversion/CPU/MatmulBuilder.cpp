//===- MatmulBuilder.cpp - What code of a grouped matmul shares -----------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MatmulBuilder.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::moe;

void MatmulBuilder::either(OpBuilder &b, Value condition,
                           function_ref<void(OpBuilder &, bool)> branch) {
  auto fill = [&](bool value) {
    return [&branch, value](OpBuilder &b, Location loc) {
      branch(b, value);
      scf::YieldOp::create(b, loc);
    };
  };
  scf::IfOp::create(b, loc, condition, fill(true), fill(false));
}

void MatmulBuilder::switchRows(OpBuilder &b, Value count, int64_t least,
                               int64_t most,
                               function_ref<void(OpBuilder &, int64_t)> body) {
  auto cases = llvm::to_vector(llvm::seq(least, most));
  auto choice = scf::IndexSwitchOp::create(b, loc, TypeRange(), count, cases,
                                           cases.size());
  OpBuilder::InsertionGuard guard(b);
  auto fill = [&](Region &region, int64_t height) {
    b.createBlock(&region);
    if (height)
      body(b, height);
    scf::YieldOp::create(b, loc);
  };
  for (int64_t height : cases)
    fill(choice.getCaseRegions()[height - least], height);
  fill(choice.getDefaultRegion(), most);
}

Value MatmulBuilder::loadIndex(OpBuilder &b, Value buffer, ValueRange at) {
  Value id = memref::LoadOp::create(b, loc, buffer, at);
  return arith::IndexCastOp::create(b, loc, b.getIndexType(), id);
}

MatmulBuilder::TokenOfRow MatmulBuilder::tokenOf(OpBuilder &b, Value row) {
  if (!op.getSource() || !op.getTopK())
    return {b.getIndexAttr(0), b.getIndexAttr(0)};
  Value choice = loadIndex(b, op.getSource(), row);
  Value topK = index(b, *op.getTopK());
  Value token = arith::DivUIOp::create(b, loc, choice, topK);
  Value position = arith::RemUIOp::create(b, loc, choice, topK);
  return {getAsOpFoldResult(token), getAsOpFoldResult(position)};
}

MatmulBuilder::TileRows MatmulBuilder::tileRowsOf(OpBuilder &b,
                                                  const Matmul::Term &term,
                                                  Value first, Value place,
                                                  int64_t height) {
  TileRows tile;
  for (int64_t i = 0; i < height; ++i) {
    Value here = add(b, place, index(b, i));
    Value row = add(b, first, here);
    tile.rows.push_back(term.prologue ? here : row);
    tile.tokens.push_back(term.isGathered() ? tokenOf(b, row).token
                                            : b.getIndexAttr(0));
  }
  return tile;
}

void MatmulBuilder::forTiles(
    OpBuilder &b, Value begin, Value end, int64_t width,
    function_ref<void(OpBuilder &, Value, int64_t)> body) {
  loop(b, begin, endOfWholeTiles(b, end, width), index(b, width),
       [&](OpBuilder &b, Value column) { body(b, column, width); });
  ifRestOfTiles(b, end, width, body);
}

Value MatmulBuilder::endOfWholeTiles(OpBuilder &b, Value end, int64_t width) {
  int64_t rest = numColumns % width;
  return rest ? min(b, end, index(b, numColumns - rest)) : end;
}

void MatmulBuilder::ifRestOfTiles(
    OpBuilder &b, Value end, int64_t width,
    function_ref<void(OpBuilder &, Value, int64_t)> body) {
  int64_t rest = numColumns % width;
  if (rest == 0)
    return;
  Value isLast = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, end,
                                       index(b, numColumns));
  scf::IfOp::create(b, loc, isLast, [&](OpBuilder &b, Location) {
    body(b, index(b, numColumns - rest), rest);
    scf::YieldOp::create(b, loc);
  });
}

Value MatmulBuilder::numColumnsFrom(OpBuilder &b, Value column) {
  if (numColumns % config.getLanes() == 0)
    return Value();
  return sub(b, index(b, numColumns), column);
}
