//===- DeviceRegion.h - A scalar region of an op in a kernel ----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_DEVICEREGION_H
#define LIB_CONVERSION_GPU_DEVICEREGION_H

#include "KernelBuilder.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/Support/Error.h"

namespace mlir::moe {

/// A region that makes scalars of a scalar and of elements of `extras`, each
/// where its map says.
struct DeviceRegion {
  /// Null if the op has none.
  Region *region = nullptr;
  SmallVector<Value> extras;
  SmallVector<AffineMap> maps;
  /// What the region uses from above, constants apart: numbers.
  SmallVector<Value> scalars;

  explicit operator bool() const { return region; }
};

/// An error if `buffer` is not in the default layout with static sizes, the
/// first apart. Tensors are taken to get that layout.
llvm::Error checkLayout(Value buffer);

/// The region as a kernel has it; an error names it by `name` and says why no
/// kernel can have it.
llvm::Expected<DeviceRegion> analyzeRegion(Region &region, ValueRange extras,
                                           ArrayAttr maps, StringRef name);

/// What a region of one block yields for `args`, with what it uses from above
/// in `toDevice`, or constant. `replace`, if any, gives the value of an op that
/// is not to be copied.
SmallVector<Value> cloneIntoKernel(
    KernelBuilder &b, Region &region, ValueRange args,
    const IRMapping &toDevice,
    function_ref<Value(Operation &, IRMapping &)> replace = nullptr);

/// What `region` yields for `first`, where the dimensions of the maps have the
/// values `dims` (i64, null for those that no map uses). exp of f32 is the
/// recipe of functions that decide.
SmallVector<Value> inlineDeviceRegion(KernelBuilder &b,
                                      const DeviceRegion &region, Value first,
                                      ArrayRef<Value> dims,
                                      const IRMapping &toDevice);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_DEVICEREGION_H
