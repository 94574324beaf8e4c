//===- EmulateNVVM.h - Calls of the emulation library -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_EMULATION_EMULATENVVM_H
#define LIB_CONVERSION_EMULATION_EMULATENVVM_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace mlir::moe {

/// Builds calls of the emulation library (moe/Emulation/Emulation.h) into a
/// module: declares functions, keeps texts and buffers. One a module: names
/// that begin with moe_emu_ are its own.
class EmulationCalls {
public:
  explicit EmulationCalls(ModuleOp module)
      : module(module), b(module.getContext()) {}

  /// Calls `name` before `op`; null if `result` is.
  Value call(Operation *op, StringRef name, Type result, ValueRange args);

  /// A constant text that says where `op` is: the last argument of most calls.
  Value site(Operation *op);
  Value text(Operation *op, StringRef text);

  Value i32(Operation *op, int64_t value);
  Value i8(Operation *op, int64_t value);
  /// `value`, or a constant when there is none.
  Value i32Or(Operation *op, Value value, int64_t otherwise);
  /// i1 as i8: C has no i1.
  Value byte(Operation *op, Value bit);
  Value bit(Operation *op, Value byte);
  /// A pointer of any address space as a generic one.
  Value generic(Operation *op, Value pointer);
  /// Any value of 32 bits as i32, and back.
  Value asI32(Operation *op, Value value);
  Value fromI32(Operation *op, Value word, Type type);

  /// Memory for operands (0) or results (1) of a call, of `words` i32: one of
  /// each in a function, as no call outlives its op.
  Value buffer(Operation *op, unsigned which, unsigned words);
  void storeWord(Operation *op, Value buffer, unsigned i, Value word);
  Value loadWord(Operation *op, Value buffer, unsigned i);

  Type i32Type() { return b.getI32Type(); }
  Type i8Type() { return b.getI8Type(); }
  Type pointerType(unsigned addressSpace = 0) {
    return LLVM::LLVMPointerType::get(b.getContext(), addressSpace);
  }

private:
  ModuleOp module;
  OpBuilder b;
  llvm::StringMap<LLVM::LLVMFuncOp> functions;
  llvm::StringMap<LLVM::GlobalOp> texts;
  DenseMap<Operation *, std::array<LLVM::AllocaOp, 2>> buffers;
};

/// Replaces an op of the nvvm dialect, or a call of one of its intrinsics, by
/// calls. Fails with a diagnostic if the library has nothing for it.
LogicalResult emulateOp(Operation *op, EmulationCalls &calls);

/// The same for asynchronous copies, mbarriers and warp-group instructions:
/// std::nullopt if `op` is none of them.
std::optional<LogicalResult> emulateAsyncOp(Operation *op,
                                            EmulationCalls &calls);

} // namespace mlir::moe

#endif // LIB_CONVERSION_EMULATION_EMULATENVVM_H
