//===- LogitsKernel.cpp - The matmul of a router --------------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The lanes of a warp share the sum over k: lane l adds the products of the
// pieces l, l + 32, … of 16 bytes, in ascending order, and the sums of the
// lanes are added over a tree: lanes 16 apart, then 8, 4, 2, 1. That is one
// order for a logit, whatever tile it is in, so that the tile can follow the
// number of tokens: few tokens spread the router over many warps, many tokens
// make it a tile in registers.
//
//===----------------------------------------------------------------------===//

#include "LogitsKernel.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

using Values = KernelBuilder::Values;

llvm::Expected<LogitsProblem> mlir::moe::analyzeLogits(RouteOp op) {
  LogitsProblem problem;
  problem.x = op.getX();
  problem.router = op.getRouter();
  problem.isExpertMajor = op.isExpertMajor();
  problem.hasMix = op.hasMix();
  problem.numExperts = op.getNumRouterExperts();
  problem.length = op.getLength();
  if (ShapedType::isDynamic(problem.numExperts) ||
      ShapedType::isDynamic(problem.length))
    return llvm::createStringError(
        "a kernel takes E and K, the length of a sum, as constants; make the "
        "router static");
  for (Value buffer : {problem.x, problem.router})
    if (llvm::Error error = checkLayout(buffer))
      return error;
  llvm::Expected<DeviceRegion> region = analyzeRegion(
      op.getLogits(), op.getExtras(), op.getExtraMaps(), "logits");
  if (!region)
    return region.takeError();
  problem.region = *region;
  return problem;
}

namespace {

class LogitsKernel {
public:
  LogitsKernel(KernelBuilder &b, const LogitsProblem &problem,
               const LogitsTile &tile, const IRMapping &toDevice,
               Value numTokens, Value logits, Value mix)
      : b(b), problem(problem), tile(tile), toDevice(toDevice),
        numTokens(numTokens), logits(logits), mix(mix),
        width(getPieceWidth(problem)), thread(b.threadId()),
        lane(b.rem(thread, kWarpSize)), warp(b.div(thread, kWarpSize)) {}

  void build() {
    int64_t expertBlocks =
        llvm::divideCeil(problem.numExperts, tile.blockExperts());
    Value tokenBlocks = b.ceilDiv(numTokens, tile.blockTokens());
    b.loop(b.blockId(), b.mul(tokenBlocks, expertBlocks), b.numBlocks(),
           ValueRange(), [&](Value number, ValueRange) -> Values {
             Value tokenTile =
                 b.add(b.mul(b.div(number, expertBlocks), tile.tokenWarps),
                       b.div(warp, tile.expertWarps));
             Value expertTile =
                 b.add(b.mul(b.rem(number, expertBlocks), tile.expertWarps),
                       b.rem(warp, tile.expertWarps));
             Value token = b.mul(tokenTile, tile.tokens);
             Value expert = b.mul(expertTile, tile.experts);
             b.onlyIf(b.both(b.less(token, numTokens),
                             b.less(expert, problem.numExperts)),
                      [&] { buildTile(token, expert); });
             return {};
           });
  }

private:
  KernelBuilder &b;
  const LogitsProblem &problem;
  const LogitsTile &tile;
  const IRMapping &toDevice;
  Value numTokens, logits, mix;
  /// Elements of a piece.
  int64_t width;
  Value thread, lane, warp;

  static Type elementTypeOf(Value buffer) {
    return cast<ShapedType>(buffer.getType()).getElementType();
  }

  /// As many elements as 16 bytes of the wider operand; 1 where rows are not
  /// made of such pieces.
  static int64_t getPieceWidth(const LogitsProblem &problem) {
    unsigned bits =
        std::max(elementTypeOf(problem.x).getIntOrFloatBitWidth(),
                 elementTypeOf(problem.router).getIntOrFloatBitWidth());
    int64_t width = 128 / bits;
    return problem.length % width == 0 ? width : 1;
  }

  //===--------------------------------------------------------------------===//
  // Operands
  //===--------------------------------------------------------------------===//

  /// Row `row` (i32) of a matrix with K columns.
  Value rowOf(Value buffer, Value row) {
    return b.element(toDevice.lookup(buffer), elementTypeOf(buffer),
                     b.mul(b.widen(row), problem.length));
  }

  Value extend(Value value) {
    Type type = b.getF32Type();
    if (auto vector = dyn_cast<VectorType>(value.getType()))
      type = vector.clone(type);
    return value.getType() == type
               ? value
               : Value(arith::ExtFOp::create(b, type, value));
  }

  /// The f32 elements of a piece that lie side by side.
  Values loadPiece(Value buffer, Value row, Value piece) {
    Type element = elementTypeOf(buffer);
    Value place = b.element(row, element, b.mul(piece, width));
    unsigned bytes = element.getIntOrFloatBitWidth() / 8 * width;
    Value loaded = LLVM::LoadOp::create(
        b, VectorType::get({width}, element), place, bytes,
        /*isVolatile=*/false, /*isNonTemporal=*/false, /*isInvariant=*/true);
    Value extended = extend(loaded);
    Values elements;
    for (int64_t i = 0; i < width; ++i)
      elements.push_back(vector::ExtractOp::create(b, extended, i));
    return elements;
  }

  /// The same of the column of an expert in a router K×E.
  Values loadColumn(Value expert, Value piece) {
    Type element = elementTypeOf(problem.router);
    Values elements;
    for (int64_t i = 0; i < width; ++i) {
      Value k = b.add(b.mul(piece, width), i);
      Value index =
          b.add(b.mul(b.widen(k), problem.numExperts), b.widen(expert));
      Value place = b.element(toDevice.lookup(problem.router), element, index);
      elements.push_back(extend(b.loadConstant(element, place)));
    }
    return elements;
  }

  //===--------------------------------------------------------------------===//
  // Sums
  //===--------------------------------------------------------------------===//

  /// The lane's parts of the sums, token by token. Rows beyond the last are the
  /// last.
  Values buildSums(Value token, Value expert) {
    Values rows, experts;
    for (int64_t i = 0; i < tile.tokens; ++i)
      rows.push_back(
          rowOf(problem.x, b.min(b.add(token, i), b.sub(numTokens, 1))));
    for (int64_t i = 0; i < tile.experts; ++i) {
      Value row = b.min(b.add(expert, i), problem.numExperts - 1);
      experts.push_back(problem.isExpertMajor ? rowOf(problem.router, row)
                                              : row);
    }
    Value zero = arith::ConstantOp::create(b, b.getF32FloatAttr(0));
    Values sums(tile.tokens * tile.experts, zero);
    return b.loop(lane, b.i32(problem.length / width), b.i32(kWarpSize), sums,
                  [&](Value piece, ValueRange carried) -> Values {
                    SmallVector<Values> weights;
                    for (Value at : experts)
                      weights.push_back(
                          problem.isExpertMajor
                              ? loadPiece(problem.router, at, piece)
                              : loadColumn(at, piece));
                    Values next(carried);
                    for (auto [i, row] : llvm::enumerate(rows)) {
                      Values elements = loadPiece(problem.x, row, piece);
                      for (auto [e, weight] : llvm::enumerate(weights)) {
                        Value &sum = next[i * tile.experts + e];
                        for (auto [x, w] : llvm::zip(elements, weight))
                          sum = math::FmaOp::create(b, x, w, sum);
                      }
                    }
                    return next;
                  });
  }

  /// Adds up the lanes. Of n sums, lane l gets number l · n / 32: in each step
  /// a lane gives half of what it has for the other half of what its partner
  /// has.
  Value addLanes(Values sums) {
    for (int64_t distance = kWarpSize / 2; distance > 0; distance /= 2) {
      if (sums.size() == 1) {
        sums[0] =
            arith::AddFOp::create(b, sums[0], b.shuffleXor(sums[0], distance));
        continue;
      }
      size_t half = sums.size() / 2;
      Value isUpper = arith::CmpIOp::create(b, arith::CmpIPredicate::ne,
                                            b.bitAnd(lane, distance), b.i32(0));
      Values next;
      for (size_t i = 0; i < half; ++i) {
        Value mine = b.select(isUpper, sums[i + half], sums[i]);
        Value given = b.select(isUpper, sums[i], sums[i + half]);
        next.push_back(
            arith::AddFOp::create(b, mine, b.shuffleXor(given, distance)));
      }
      sums = next;
    }
    return sums[0];
  }

  void buildTile(Value token, Value expert) {
    int64_t numSums = tile.tokens * tile.experts;
    Value sum = addLanes(buildSums(token, expert));
    int64_t lanesPerSum = kWarpSize / numSums;
    Value number = b.div(lane, lanesPerSum);
    Value t = b.add(token, b.div(number, tile.experts));
    Value e = b.add(expert, b.rem(number, tile.experts));
    Value isThere = b.both(b.less(t, numTokens), b.less(e, problem.numExperts));
    isThere = b.both(isThere, b.equal(b.rem(lane, lanesPerSum), 0));
    b.onlyIf(isThere, [&] { store(t, e, sum); });
  }

  void store(Value token, Value expert, Value sum) {
    Value t = b.widen(token), e = b.widen(expert);
    Values made = inlineDeviceRegion(b, problem.region, sum,
                                     {t, e, Value(), Value()}, toDevice);
    Value index = b.add(b.mul(t, problem.numExperts), e);
    b.store(made[0], b.element(logits, b.getF32Type(), index));
    if (problem.hasMix)
      b.store(made[1], b.element(mix, b.getF32Type(), index));
  }
};

} // namespace

void mlir::moe::buildLogitsKernel(KernelBuilder &b,
                                  const LogitsProblem &problem,
                                  const LogitsTile &tile,
                                  const IRMapping &toDevice, Value numTokens,
                                  Value logits, Value mix) {
  LogitsKernel(b, problem, tile, toDevice, numTokens, logits, mix).build();
}
