//===- MatmulProblem.h - What a GPU's kernel knows of its op ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_MATMULPROBLEM_H
#define LIB_CONVERSION_GPU_MATMULPROBLEM_H

#include "DeviceRegion.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// Where an operand is read: at element constant + Σ coefficients[dim] · dim of
/// its buffer, over the dimensions e, m, t, j, n, k of the op.
struct LinearAccess {
  Value buffer;
  int64_t constant = 0;
  SmallVector<int64_t, 6> coefficients;

  Type getElementType() const;
  /// Bytes of an element.
  int64_t getElementBytes() const;
  bool dependsOn(unsigned dim) const { return coefficients[dim] != 0; }
};

/// A grouped matmul that the kernels can do: products of one set of rows and a
/// weight each, all f16, all bf16 or all f32, in a layout that 16 bytes at a
/// time can be copied from. Rows that a prologue makes have to be stored first.
struct MatmulProblem {
  GroupedMatmulOp op;
  Value offsets;
  /// Where the rows come from, and choices of a token; null and 1 if the op has
  /// none.
  Value source;
  int64_t topK = 1;
  Region *epilogue;
  /// N and K.
  int64_t numColumns, length;
  /// Of what is multiplied: f16, bf16 or f32.
  Type elementType;
  /// The rows, by m or, gathered, by t.
  LinearAccess rows;
  bool isGathered;
  /// What makes elements of a row before they are multiplied, if anything does.
  DeviceRegion prologue;
  /// The weight of each product; k runs last in all of them (E×N×K), or n does
  /// (E×K×N). One of 2·N columns if those of two products alternate in it.
  SmallVector<LinearAccess, 2> weights;
  bool sumIsLast;
  /// If columns alternate: of each product, which one of two neighbours is its.
  SmallVector<int64_t, 2> alternating;
  SmallVector<LinearAccess, 2> extras;
  SmallVector<LinearAccess, 1> results;
  /// What the epilogue uses from above, constants apart: scalars.
  SmallVector<Value, 1> scalars;

  /// Elements of a factor that one copy moves: 16 bytes.
  int64_t getPieceElements() const;
  /// And in a row of a tile in shared memory.
  int64_t getRowElements() const;
  int64_t getNumProducts() const;
  bool alternates() const { return !alternating.empty(); }
  /// How many columns of a weight are for one of the results.
  int64_t getColumnRatio() const { return alternates() ? 2 : 1; }
  /// Columns of a weight for `columns` columns of the results.
  int64_t getWeightColumns(int64_t columns) const {
    return columns * getColumnRatio();
  }
  /// How four neighbouring lanes share the sums for 8 columns of results: lane
  /// q has those of columns step · q and step · q + next.
  struct LaneColumns {
    int64_t step, next;
  };
  LaneColumns getLaneColumns() const;
  /// True if t or j of a row is needed.
  bool readsSource() const;
};

/// The problem that `op` is, on tensors or memrefs; an error says why it is
/// none and what to change.
llvm::Expected<MatmulProblem> analyzeMatmul(GroupedMatmulOp op);

/// The same problem with its rows where a kernel before has stored them: in
/// `rows`, M×K of its element type.
MatmulProblem withStoredRows(MatmulProblem problem, Value rows);

/// Shared memory that a kernel needs, in bytes.
int64_t getSharedBytes(const MatmulProblem &problem, GPUMatmulAttr config);
int64_t getSharedBytes(const MatmulProblem &problem, GPUWgmmaAttr config);

/// Why `config` does not fit `problem`; success if it does. Independent of the
/// chip, but for its registers, of which all chips have as many.
llvm::Error checkConfig(const MatmulProblem &problem, GPUMatmulAttr config);
llvm::Error checkConfig(const MatmulProblem &problem, GPUWgmmaAttr config);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_MATMULPROBLEM_H
