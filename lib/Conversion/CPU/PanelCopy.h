//===- PanelCopy.h - Vector code that packs one panel -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_CPU_PANELCOPY_H
#define LIB_CONVERSION_CPU_PANELCOPY_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace mlir::moe {

/// Weights on a tensor E×N×K or E×K×N of f32, f16 or bf16, which are to be
/// packed (moe/Dialect/MoE/Utils/PackedWeights.h): columns `first`, `first` +
/// `stride`, ….
struct PanelSource {
  Value tensor;
  /// 1 where k runs last, 2 where n does.
  int64_t columnDim = 1;
  int64_t first = 0, stride = 1;
  /// N and K.
  int64_t columns = 0, length = 0;

  int64_t getNumPanels() const;
  /// The columns of the last panel.
  int64_t getLastColumns() const;
};

/// Copies panel number `panel` of expert `expert` to `dest`, a tensor
/// ⌈K/pair⌉ × (32·pair), and returns what `dest` has become. `numColumns` of
/// the panel, a constant, are in the source; the others become 0, and so does
/// what is beside an odd K's last element. Where k runs last, blocks of `lanes`
/// columns are transposed in registers of `lanes` × 32 bits.
Value buildPanelCopy(OpBuilder &builder, Location loc,
                     const PanelSource &source, int64_t lanes, Value expert,
                     Value panel, int64_t numColumns, Value dest);

} // namespace mlir::moe

#endif // LIB_CONVERSION_CPU_PANELCOPY_H
