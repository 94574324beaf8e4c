//===- PackedWeights.h - The layout of packed weights -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// A weight w[e, n, k] of N columns and sums of K elements, packed: panels of
/// 32 columns, in which the columns of an element of k lie beside each other,
/// and of bf16 those of a pair of elements, which instructions multiply at once
/// (vdpbf16ps, tdpbf16ps). One layout for all instruction sets:
///
///   bf16      E × ⌈N/32⌉ × ⌈K/2⌉ × 32 × 2
///             [e, n floordiv 32, k floordiv 2, n mod 32, k mod 2]
///   f32, f16  E × ⌈N/32⌉ × K × 32
///             [e, n floordiv 32, k, n mod 32]
///
/// Columns from N on and the second element of an odd K's last pair are 0.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_PACKEDWEIGHTS_H
#define MOE_DIALECT_MOE_UTILS_PACKEDWEIGHTS_H

#include "mlir/IR/AffineMap.h"
#include "mlir/IR/BuiltinTypeInterfaces.h"

namespace mlir::moe {

/// Columns of a panel.
inline constexpr int64_t kPanelColumns = 32;

/// The elements of k that lie beside each other in a panel: 2 or 1.
int64_t getPanelPair(Type elementType);

/// The sizes of an expert's slab: ⌈N/32⌉ × ⌈K/2⌉ × 32 × 2 or ⌈N/32⌉ × K × 32.
llvm::SmallVector<int64_t> getPackedShape(Type elementType, int64_t numColumns,
                                          int64_t length);

/// The index of packed weights, over the dimensions of `moe.grouped_matmul`,
/// where `expert` picks the slab.
AffineMap getPackedMap(Type elementType, AffineExpr expert);

/// True if a weight of this type, whose last sizes are those of the layout, is
/// read at an index like that.
bool isPackedWeight(ShapedType type, AffineMap map);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_PACKEDWEIGHTS_H
