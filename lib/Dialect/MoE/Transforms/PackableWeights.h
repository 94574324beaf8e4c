//===- PackableWeights.h - Weights that can be packed -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_DIALECT_MOE_TRANSFORMS_PACKABLEWEIGHTS_H
#define LIB_DIALECT_MOE_TRANSFORMS_PACKABLEWEIGHTS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include <string>

namespace mlir::moe {

/// What a term reads of an E×N×K or E×K×N tensor: columns `first`, `first` +
/// `stride`, …, `columns` of them.
struct WeightRead {
  unsigned columnDim = 1, sumDim = 2;
  int64_t first = 0, stride = 1, columns = 0;

  bool operator==(const WeightRead &other) const {
    return columnDim == other.columnDim && first == other.first &&
           stride == other.stride && columns == other.columns;
  }
};

/// A factor of a grouped matmul that is such a read.
struct WeightUse {
  GroupedMatmulOp op;
  unsigned factor;
  WeightRead read;
};

/// Why something is not packed, and what to change.
struct Obstacle {
  std::string reason;
  StringRef advice;
};

/// An argument of a layer, and the reads of it that differ: a packed tensor
/// each, with the attributes that it has as an argument.
struct PackedArgument {
  BlockArgument argument;
  SmallVector<WeightUse> uses;
  SmallVector<WeightRead> reads;
  SmallVector<DictionaryAttr> attributes;
};

/// The arguments of `layer` that can be packed, in their order, without
/// attributes; the reads of each by their first column. Missed remarks say of
/// other weights why they cannot.
SmallVector<PackedArgument> findPackableWeights(func::FuncOp layer);

/// A missed remark at `op`: `what` (an argument and ": ", or nothing) is not
/// packed because of `obstacle`.
void remarkNotPacked(Operation *op, const Twine &what,
                     const Obstacle &obstacle);

} // namespace mlir::moe

#endif // LIB_DIALECT_MOE_TRANSFORMS_PACKABLEWEIGHTS_H
