//===- TensorMaps.h - What a kernel copies by TMA ---------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The tensor memory accelerator copies boxes of a tensor that a tensor map
// describes: 128 bytes that the host encodes and a kernel takes by value. What
// of a box lies outside of the tensor is zeros.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_TENSORMAPS_H
#define LIB_CONVERSION_GPU_TENSORMAPS_H

#include "MatmulProblem.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// A tensor in the order of the op's dimensions `dims`, the last of which has
/// its elements side by side, and the box of it that a copy takes.
struct TensorMap {
  LinearAccess access;
  SmallVector<unsigned, 3> dims;
  /// Elements along each of `dims`; kDynamic for the number of rows or experts.
  SmallVector<int64_t, 3> sizes, box;
};

/// The tensor maps of a problem, and which one each operand is in.
struct MatmulMaps {
  SmallVector<TensorMap, 3> maps;
  /// The map of the rows; empty if they are gathered by threads.
  std::optional<unsigned> rows;
  /// Of each weight: its map, and where its first column is in it. Gate and up,
  /// side by side in a checkpoint, are boxes of one map.
  struct Weight {
    unsigned map;
    int64_t firstColumn;
  };
  SmallVector<Weight, 2> weights;
};

/// Columns of a panel of a weight with n last: the span of a swizzle.
constexpr int64_t kPanelColumns = 64;

/// The maps that a kernel of `config` needs for `problem`.
MatmulMaps planTensorMaps(const MatmulProblem &problem, GPUWgmmaAttr config);

/// Builds the host's side of a map: a value of nvgpu's descriptor type. The
/// sizes that `map` leaves open are `numRows` and `numExperts` (index).
Value buildTensorMap(ImplicitLocOpBuilder &b, const TensorMap &map,
                     Value numRows, Value numExperts);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_TENSORMAPS_H
