//===- LaneOffsets.h - An index in consecutive lanes ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_LANEOFFSETS_H
#define LIB_CONVERSION_CPU_LANEOFFSETS_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>

namespace mlir::moe {

/// What an index is in each lane.
struct LaneOffsets {
  /// How much larger than in the first lane.
  SmallVector<int64_t> offsets;
  /// What it is in the first lane, where that is a constant.
  std::optional<int64_t> first;

  bool areEqual() const { return llvm::all_equal(offsets); }
};

/// `index` in `lanes` consecutive values of dimension `dim`, from any multiple
/// of `lanes` below `length` on; none where the offsets are not the same at all
/// of these, or depend on other dimensions. Lanes from `length` on are not
/// looked at: they have the last one's.
std::optional<LaneOffsets> getLaneOffsets(AffineExpr index, unsigned dim,
                                          int64_t lanes, int64_t length);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_LANEOFFSETS_H
