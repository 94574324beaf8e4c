//===- DeviceMath.h - Functions that kernels can compute --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_DEVICEMATH_H
#define LIB_CONVERSION_GPU_DEVICEMATH_H

#include "mlir/IR/Region.h"

namespace mlir::moe {

/// The first op of `region`, or within its ops, that moe-device-math and the
/// conversions after it have no code for; null if there is none.
Operation *findOpWithoutDeviceCode(Region &region);

/// Whether they have code for `op`, on scalars or vectors; true outside of the
/// math dialect.
bool hasDeviceCode(Operation *op);

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_DEVICEMATH_H
