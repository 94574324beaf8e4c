//===- VectorAccess.h - Vectors of a buffer, masked or not ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_VECTORACCESS_H
#define LIB_CONVERSION_CPU_VECTORACCESS_H

#include "mlir/IR/Builders.h"

namespace mlir::moe {

/// `lanes` elements of `buffer` along its last dimension from `at` on; those
/// that `mask` leaves out are 0 and not read. A null mask leaves none out.
Value loadVector(OpBuilder &builder, Location loc, Value buffer, ValueRange at,
                 int64_t lanes, Value mask);

/// Stores the elements of `vector` that `mask` (null for all) does not leave
/// out.
void storeVector(OpBuilder &builder, Location loc, Value vector, Value buffer,
                 ValueRange at, Value mask);

/// Asks for the cache line at `at`, into the first cache or the second.
void buildPrefetch(OpBuilder &builder, Location loc, Value buffer,
                   ValueRange at, bool toFirstCache);

/// The mask of the first `count` of `lanes`; null where that is all.
Value buildPrefixMask(OpBuilder &builder, Location loc, int64_t lanes,
                      int64_t count);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_VECTORACCESS_H
