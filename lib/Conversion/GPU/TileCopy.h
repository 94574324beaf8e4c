//===- TileCopy.h - Tiles from global to shared memory ----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tile in shared memory is rows of 128 bytes, each 8 pieces of 16 bytes.
// Piece p of row r lies at place p xor (r mod 8) of its row: eight lanes that
// read one piece of eight neighbouring rows, as ldmatrix does, find them in
// different banks, and so do eight lanes that write the pieces of one row.
// Panels of f32 whose rows are k are read in another way: two pieces of each of
// four rows at once, which lie in different banks at p xor 2 · (r mod 4).
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_TILECOPY_H
#define LIB_CONVERSION_GPU_TILECOPY_H

#include "KernelBuilder.h"

namespace mlir::moe {

/// Bytes of a row of a tile, and of a piece.
constexpr int64_t kRowBytes = 128, kPieceBytes = 16;
constexpr int64_t kPiecesPerRow = kRowBytes / kPieceBytes;
/// Elements of 2 bytes in a row, and in a piece.
constexpr int64_t kRowElements = kRowBytes / 2, kPieceElements = 8;

/// By what the number of a row in a panel of f32 is multiplied for its phase.
constexpr int64_t kPanelPhaseOfWords = 2;

/// The place of piece `piece` in a row whose number mod 8 is `phase`, in bytes.
Value buildSwizzle(KernelBuilder &b, Value piece, Value phase);

/// How the threads of a block share the copies of a tile.
class TileCopy {
public:
  /// Where a piece comes from.
  struct Source {
    /// Its place in step 0, in global memory.
    Value pointer;
    /// Whether it exists; null if always. Otherwise it is zeros.
    Value valid;
    /// Its first k in step 0, an i32.
    Value sum;
  };
  /// The source of piece `piece` of row `row` of a tile.
  using SourceOf = function_ref<Source(Value row, Value piece)>;

  /// `rows` rows, of which a step moves on by `stepBytes` in global memory and
  /// by `stepSum` in k, up to `length`. The phase of row r is r · `phaseFactor`
  /// mod 8.
  TileCopy(KernelBuilder &b, Value thread, int64_t numThreads, int64_t rows,
           int64_t stepBytes, int64_t stepSum, int64_t length,
           SourceOf sourceOf, int64_t phaseFactor = 1);

  /// Starts the copies of step `step` (i32) to the tile at `shared`.
  void issue(Value shared, Value step) const;

private:
  KernelBuilder *builder;
  int64_t rowsPerPass, stepBytes, stepSum, length;
  /// The first piece's place in the tile, in bytes.
  Value place;
  /// Null if all threads take part.
  Value takesPart;
  SmallVector<Source> sources;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_TILECOPY_H
