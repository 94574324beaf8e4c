//===- DeviceCapture.h - What a kernel needs from its host ------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Code that moves into a kernel uses values from above it. Constants, views and
// what is read of arguments are computed again in the kernel; buffers become
// pointers and their dynamic sizes, and scalars parameters.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_DEVICECAPTURE_H
#define LIB_CONVERSION_GPU_DEVICECAPTURE_H

#include "KernelModule.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::moe {

/// Emits the error for `op`, which the device computes, where `user` needs the
/// value on the host.
LogicalResult emitNeededOnHost(Operation *op, Operation *user);

/// Values that each kernel which needs them computes anew: what is read of an
/// entry's arguments, which nobody writes, and of constants.
class LazyValues {
public:
  explicit LazyValues(func::FuncOp function);

  /// Takes `op` if it is one, or computes with nothing but such and the host's
  /// values.
  bool add(Operation *op);
  bool contains(Operation *op) const { return ops.contains(op); }
  /// Erases the ops; an error for one that the host uses.
  LogicalResult eraseAll();

private:
  func::FuncOp function;
  unsigned numReadOnly = 0;
  llvm::SetVector<Operation *> ops;
};

class DeviceCapture {
public:
  explicit DeviceCapture(const LazyValues &lazy) : lazy(lazy) {}

  /// Adds what `op` and ops in it use from above, unless `moved` makes it. An
  /// error names what cannot be brought to the device.
  LogicalResult addUses(Operation *op,
                        const llvm::SmallPtrSetImpl<Operation *> &moved);
  /// Adds an index, integer or float of the host, or a constant.
  void addScalar(Value value);

  /// Computes, for a launch at `b`, what the parameters are; once.
  void buildHostValues(ImplicitLocOpBuilder &b);
  const KernelParameters &getParameters() const { return parameters; }

  /// From the host's values to what stands for them in a kernel.
  IRMapping buildDeviceValues(KernelBuilder &b,
                              const IRMapping &toDevice) const;

private:
  LogicalResult add(Value value, Operation *user);

  const LazyValues &lazy;
  llvm::SetVector<Value> buffers, scalars;
  /// In an order in which each follows what it uses.
  llvm::SetVector<Operation *> cloned;
  KernelParameters parameters;
  /// i64 for indices; dynamic sizes by buffer, in order.
  DenseMap<Value, Value> hostScalars;
  DenseMap<Value, SmallVector<Value>> hostSizes;
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_DEVICECAPTURE_H
