//===- MicroKernel.h - A tile of sums over k in registers -------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_MICROKERNEL_H
#define LIB_CONVERSION_CPU_MICROKERNEL_H

#include "mlir/IR/Builders.h"
#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Values of e, m, t, j, n and k at some point of the code.
using MatmulIndices = SmallVector<OpFoldResult>;

/// The indices that `map` reads at.
SmallVector<Value> buildIndices(OpBuilder &builder, Location loc, AffineMap map,
                                const MatmulIndices &dims);

/// True if `dim` is in the last index of `map` alone, with nothing but
/// constants and other dimensions added.
bool isUnitStride(AffineMap map, GroupedMatmulOp::Dim dim);

/// Sums of a tile of rows × `numColumns` columns over k in [begin, end), with
/// begin a multiple of the config's step.
struct TileSums {
  /// A buffer and where in it an element is.
  struct Operand {
    Value buffer;
    AffineMap map;
  };
  Operand lhs, weight;
  CPUMatmulAttr config;
  /// e; m and t of each row; n of the first column, as the weights count it.
  MatmulIndices dims;
  ArrayRef<OpFoldResult> rows, tokens;
  int64_t numColumns;
  Value begin;
  /// The end of whole steps, and the elements of a last, shorter one that
  /// begins there (0 for none).
  Value end;
  int64_t tail;
  /// Columns whose weights are asked for on the way, step by step: those that
  /// the next tile will read, `shift` elements of k further (null for none).
  struct {
    Operand weight;
    OpFoldResult expert;
    Value column, shift;
    int64_t numColumns;
  } prefetch;
  /// A row that a later block multiplies, asked for into the second cache, and
  /// how much further in k it begins; null for none.
  struct {
    OpFoldResult row;
    Value shift;
  } later;
};

/// One vector a row: the sums of its columns in f32, filled up to a power of
/// two with lanes that mean nothing.
SmallVector<Value> buildTileSums(OpBuilder &builder, Location loc,
                                 const TileSums &tile);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_MICROKERNEL_H
