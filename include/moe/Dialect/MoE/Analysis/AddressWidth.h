//===- AddressWidth.h - Where 32 bits address an operand --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_ANALYSIS_ADDRESSWIDTH_H
#define MOE_DIALECT_MOE_ANALYSIS_ADDRESSWIDTH_H

#include "mlir/Interfaces/FunctionInterfaces.h"

namespace mlir::moe {

/// How wide offsets into one operand have to be, in bytes from its beginning.
/// A signed 32-bit offset is proven safe where the last byte is below 2^31.
struct AddressWidth {
  Value operand;
  /// An upper bound of its bytes in memory, row-major; none if it overflows.
  std::optional<int64_t> maxBytes;
  /// Dimensions [firstNarrow, rank) together are below 2^31 bytes: with these
  /// before them in a 64-bit base, 32 bits do for the rest. 0: for all of it.
  unsigned firstNarrow = 0;

  bool isNarrow() const { return firstNarrow == 0; }
};

/// The widths for each shaped operand (once) of `op`, in their order. Dynamic
/// sizes are tokens, choices or rows, of which there are less than 2^31 (an entry
/// checks that), or what `maxTokens` tokens make of them, if that is given and
/// the sizes follow from the arguments of `function`.
llvm::SmallVector<AddressWidth>
computeAddressWidths(Operation *op, FunctionOpInterface function,
                     std::optional<int64_t> maxTokens = std::nullopt);

/// An analysis remark of `category` for each kernel-level op in `function`: which
/// operands 32 bits address.
void remarkAddressWidths(FunctionOpInterface function,
                         std::optional<int64_t> maxTokens,
                         llvm::StringRef category);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_ANALYSIS_ADDRESSWIDTH_H
