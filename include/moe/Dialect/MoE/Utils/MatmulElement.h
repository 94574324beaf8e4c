//===- MatmulElement.h - One element of a grouped matmul --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_MATMULELEMENT_H
#define MOE_DIALECT_MOE_UTILS_MATMULELEMENT_H

#include "moe/Dialect/MoE/IR/MoE.h"

namespace mlir::moe {

/// Builds what the epilogue of a grouped matmul yields for one row and column:
/// what every index expression says, read by the letter, on tensors or on
/// buffers. Decides no loop but that over k.
class MatmulElement {
public:
  /// All indices are 0 at first, and those that an op does not have stay it.
  MatmulElement(OpBuilder &builder, GroupedMatmulOp op);

  /// Values of e, m, t, j and n where the element is built.
  void setIndex(GroupedMatmulOp::Dim dim, Value value) { indices[dim] = value; }
  Value getIndex(GroupedMatmulOp::Dim dim) const { return indices[dim]; }
  /// m, and t and j where the op has a source.
  void enterRow(OpBuilder &b, Value row);

  /// The epilogue's values, one a result.
  SmallVector<Value> build(OpBuilder &b);

  /// An id of the offsets or the source, as an index.
  Value readId(OpBuilder &b, Value ids, Value at);

private:
  Value buildProduct(OpBuilder &b, const GroupedMatmulOp::Product &product);
  Value readLhs(OpBuilder &b, const GroupedMatmulOp::Term &term);
  Value readWeight(OpBuilder &b, const GroupedMatmulOp::Term &term);

  GroupedMatmulOp op;
  Location loc;
  SmallVector<GroupedMatmulOp::Product> products;
  Value zero;
  SmallVector<Value> indices;
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_MATMULELEMENT_H
