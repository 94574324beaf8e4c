//===- DeviceCall.h - Calls a layer on an NVIDIA GPU ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOERUN_DEVICECALL_H
#define MOE_TOOLS_MOERUN_DEVICECALL_H

#include "moe/Run/HostTensor.h"
#include "moe/Target/Engine.h"
#include <string>

namespace mlir::moe {

/// The GPU that a layer is to be compiled for: that of this thread's context,
/// or device 0. An error says why there is none, in the driver's words.
llvm::Expected<std::string> findDeviceChip();

/// Copies arguments to the GPU, calls a layer that was compiled for it, and
/// copies the results back.
llvm::Error callOnDevice(const Engine &engine,
                         llvm::ArrayRef<HostTensor> arguments,
                         llvm::MutableArrayRef<HostTensor> results);

} // namespace mlir::moe

#endif // MOE_TOOLS_MOERUN_DEVICECALL_H
