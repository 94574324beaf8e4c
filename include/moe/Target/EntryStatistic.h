//===- EntryStatistic.h - What an artifact tells of its routing -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_ENTRYSTATISTIC_H
#define MOE_TARGET_ENTRYSTATISTIC_H

#include "moe/Dialect/MoE/Transforms/Statistics.h"
#include <string>

namespace mlir::moe {

/// A member of moe_stats that an artifact fills.
struct EntryStatistic : AppendedStatistic {
  /// A text for each size, as in EntryTensor: "8", "T".
  llvm::SmallVector<std::string, 2> sizeNames;
};

} // namespace mlir::moe

#endif // MOE_TARGET_ENTRYSTATISTIC_H
