//===- MatmulEpilogue.h - From sums in registers to results -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_MATMULEPILOGUE_H
#define LIB_CONVERSION_GPU_MATMULEPILOGUE_H

#include "KernelBuilder.h"
#include "MatmulProblem.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::moe {

/// Inlines the epilogue of a grouped matmul for single elements and stores what
/// it yields.
class MatmulEpilogue {
public:
  /// `toDevice` maps the op's operands, and scalars from above, to what the
  /// kernel has for them: pointers to global memory and values.
  MatmulEpilogue(KernelBuilder &b, const MatmulProblem &problem,
                 const IRMapping &toDevice)
      : b(b), problem(problem), toDevice(toDevice) {}

  /// e and m (i32), and the token and choice of the row where an extra is
  /// indexed by them.
  struct Row {
    Value expert, row, token, choice;
  };
  Row enterRow(Value expert, Value row) const;

  /// Stores the results in column `column` (i32) and the one that a lane has
  /// beside it (MatmulProblem::getLaneColumns): `sums` has a pair of sums for
  /// each product. Columns beyond N are left out.
  void storePair(const Row &row, Value column,
                 ArrayRef<std::array<Value, 2>> sums) const;

  /// Of a product, the sums of two columns.
  using Pair = std::array<Value, 2>;

  /// True if storeQuads can be used: results of 16 bits, in rows that begin at
  /// multiples of 16 bytes.
  bool storesQuads() const;

  /// Stores the results in the 32 columns from `column` (i32, a multiple of 8)
  /// on, all of them below N, 16 bytes at a time, where `isRow` holds. All
  /// lanes of a warp come here; four neighbours have the sums of a row: place q
  /// of them has, of each 8 columns i, those that getLaneColumns() says, and
  /// gives a pair for each product in `sums[i]`.
  void storeQuads(const Row &row, Value isRow, Value column, Value lane,
                  ArrayRef<SmallVector<Pair>> sums) const;

  /// Stores the results in column `column` (i32 below N): `sums` has a sum for
  /// each product.
  void storeOne(const Row &row, Value column, ValueRange sums) const;

private:
  Value buildAddress(const LinearAccess &access, const Row &row,
                     Value column) const;
  SmallVector<Value> inlineEpilogue(const Row &row, Value column,
                                    ValueRange sums) const;
  bool storesPairs(const LinearAccess &result) const;
  void store(const LinearAccess &result, const Row &row, Value column,
             Value value, int64_t alignment) const;

  KernelBuilder &b;
  const MatmulProblem &problem;
  const IRMapping &toDevice;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_MATMULEPILOGUE_H
