//===- TileCopy.cpp - Tiles from global to shared memory ------------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TileCopy.h"

using namespace mlir;
using namespace mlir::moe;

Value mlir::moe::buildSwizzle(KernelBuilder &b, Value piece, Value phase) {
  return b.mul(b.bitXor(piece, phase), kPieceBytes);
}

TileCopy::TileCopy(KernelBuilder &b, Value thread, int64_t numThreads,
                   int64_t rows, int64_t stepBytes, int64_t stepSum,
                   int64_t length, SourceOf sourceOf, int64_t phaseFactor)
    : builder(&b), rowsPerPass(numThreads / kPiecesPerRow),
      stepBytes(stepBytes), stepSum(stepSum), length(length) {
  Value piece = b.rem(thread, kPiecesPerRow);
  Value firstRow = b.div(thread, kPiecesPerRow);
  // rowsPerPass is a multiple of 8: the phase is that of the first row.
  Value phase = b.rem(b.mul(firstRow, phaseFactor), kPiecesPerRow);
  place = b.add(b.mul(firstRow, kRowBytes), buildSwizzle(b, piece, phase));
  if (rows < rowsPerPass)
    takesPart = b.less(firstRow, rows);
  for (int64_t row = 0; row < rows; row += rowsPerPass)
    sources.push_back(sourceOf(b.add(firstRow, row), piece));
}

void TileCopy::issue(Value shared, Value step) const {
  KernelBuilder &b = *builder;
  b.onlyIf(takesPart, [&] {
    Value target = b.advance(shared, place);
    Value moved = b.mul(b.widen(step), stepBytes);
    for (auto [pass, source] : llvm::enumerate(sources)) {
      Value valid = source.valid;
      if (length % stepSum != 0)
        valid = b.both(valid,
                       b.less(b.add(source.sum, b.mul(step, stepSum)), length));
      Value bytes;
      if (valid)
        bytes = b.select(valid, b.i32(kPieceBytes), b.i32(0));
      NVVM::CpAsyncOp::create(b,
                              b.advance(target, pass * rowsPerPass * kRowBytes),
                              b.advance(source.pointer, moved), kPieceBytes,
                              NVVM::LoadCacheModifierKind::CG, bytes);
    }
  });
}
