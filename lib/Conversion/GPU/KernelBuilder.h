//===- KernelBuilder.h - Device code in a few words -------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Kernels are written in llvm, nvvm, arith and scf ops: integers of 32 bits for
// what lies within a tile, of 64 bits for addresses, and pointers.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_CONVERSION_GPU_KERNELBUILDER_H
#define LIB_CONVERSION_GPU_KERNELBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// Address spaces of NVPTX.
constexpr unsigned kGlobalMemory = 1, kSharedMemory = 3;

/// Threads of a warp.
constexpr int64_t kWarpSize = 32;

class KernelBuilder : public ImplicitLocOpBuilder {
public:
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;

  //===--------------------------------------------------------------------===//
  // Numbers
  //===--------------------------------------------------------------------===//

  Value i32(int64_t value) { return constant(getI32Type(), value); }
  Value i64(int64_t value) { return constant(getI64Type(), value); }
  /// A constant of the type of `like`.
  Value like(Value like, int64_t value) {
    return constant(like.getType(), value);
  }

  Value add(Value x, Value y) { return fold<arith::AddIOp>(x, y); }
  Value sub(Value x, Value y) { return fold<arith::SubIOp>(x, y); }
  Value mul(Value x, Value y) { return fold<arith::MulIOp>(x, y); }
  Value div(Value x, Value y) { return fold<arith::DivUIOp>(x, y); }
  Value rem(Value x, Value y) { return fold<arith::RemUIOp>(x, y); }
  Value bitAnd(Value x, Value y) { return fold<arith::AndIOp>(x, y); }
  Value bitXor(Value x, Value y) { return fold<arith::XOrIOp>(x, y); }
  Value bitOr(Value x, Value y) { return fold<arith::OrIOp>(x, y); }
  Value min(Value x, Value y) { return fold<arith::MinSIOp>(x, y); }
  Value add(Value x, int64_t y) { return add(x, like(x, y)); }
  Value sub(Value x, int64_t y) { return sub(x, like(x, y)); }
  Value mul(Value x, int64_t y) { return mul(x, like(x, y)); }
  Value div(Value x, int64_t y) { return div(x, like(x, y)); }
  Value rem(Value x, int64_t y) { return rem(x, like(x, y)); }
  Value bitAnd(Value x, int64_t y) { return bitAnd(x, like(x, y)); }
  Value bitXor(Value x, int64_t y) { return bitXor(x, like(x, y)); }
  Value min(Value x, int64_t y) { return min(x, like(x, y)); }
  Value shiftLeft(Value x, int64_t y) {
    return fold<arith::ShLIOp>(x, like(x, y));
  }
  Value shiftRight(Value x, int64_t y) {
    return fold<arith::ShRUIOp>(x, like(x, y));
  }
  /// ⌈x / y⌉ of numbers that are not negative.
  Value ceilDiv(Value x, int64_t y) { return div(add(x, y - 1), y); }

  /// Signed.
  Value less(Value x, Value y) {
    return createOrFold<arith::CmpIOp>(arith::CmpIPredicate::slt, x, y);
  }
  Value less(Value x, int64_t y) { return less(x, like(x, y)); }
  /// Unsigned.
  Value below(Value x, Value y) {
    return createOrFold<arith::CmpIOp>(arith::CmpIPredicate::ult, x, y);
  }
  Value below(Value x, int64_t y) { return below(x, like(x, y)); }
  Value equal(Value x, Value y) {
    return createOrFold<arith::CmpIOp>(arith::CmpIPredicate::eq, x, y);
  }
  Value equal(Value x, int64_t y) {
    return createOrFold<arith::CmpIOp>(arith::CmpIPredicate::eq, x, like(x, y));
  }
  Value both(Value x, Value y) {
    if (!x || !y)
      return x ? x : y;
    return fold<arith::AndIOp>(x, y);
  }
  Value select(Value condition, Value x, Value y) {
    return createOrFold<arith::SelectOp>(condition, x, y);
  }
  /// An i32 that is not negative as an i64.
  Value widen(Value x) { return createOrFold<arith::ExtUIOp>(getI64Type(), x); }
  /// How many bits of `x` are set.
  Value countBits(Value x);

  //===--------------------------------------------------------------------===//
  // Memory
  //===--------------------------------------------------------------------===//

  Type pointerType(unsigned space) {
    return LLVM::LLVMPointerType::get(getContext(), space);
  }
  /// `pointer` moved by `bytes`, an integer.
  Value advance(Value pointer, Value bytes) {
    return LLVM::GEPOp::create(*this, pointer.getType(), getI8Type(), pointer,
                               ArrayRef<LLVM::GEPArg>{bytes});
  }
  Value advance(Value pointer, int64_t bytes) {
    if (bytes == 0)
      return pointer;
    return LLVM::GEPOp::create(
        *this, pointer.getType(), getI8Type(), pointer,
        ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(bytes)});
  }
  /// Element `index`, an integer, of an array of `type`.
  Value element(Value pointer, Type type, Value index) {
    return LLVM::GEPOp::create(*this, pointer.getType(), type, pointer,
                               ArrayRef<LLVM::GEPArg>{index});
  }
  Value load(Type type, Value pointer) {
    return LLVM::LoadOp::create(*this, type, pointer);
  }
  /// Of memory that nobody writes while the kernel runs.
  Value loadConstant(Type type, Value pointer) {
    return LLVM::LoadOp::create(*this, type, pointer, /*alignment=*/0,
                                /*isVolatile=*/false, /*isNonTemporal=*/false,
                                /*isInvariant=*/true);
  }

  void store(Value value, Value pointer) {
    LLVM::StoreOp::create(*this, value, pointer);
  }

  //===--------------------------------------------------------------------===//
  // Control flow
  //===--------------------------------------------------------------------===//

  using Values = SmallVector<Value>;

  /// for (iv = lower; iv < upper; iv += step), signed. The body gets what the
  /// loop carries and returns it.
  Values loop(Value lower, Value upper, Value step, ValueRange inits,
              function_ref<Values(Value, ValueRange)> body);
  /// while (condition(carried)) carried = body(carried)
  Values loopWhile(ValueRange inits, function_ref<Value(ValueRange)> condition,
                   function_ref<Values(ValueRange)> body);
  /// Runs `body` where `condition` holds; always, if it is null.
  void onlyIf(Value condition, function_ref<void()> body);
  /// condition ? thenBody() : elseBody(), without running the other.
  Values ifElse(Value condition, function_ref<Values()> thenBody,
                function_ref<Values()> elseBody);

  //===--------------------------------------------------------------------===//
  // Threads
  //===--------------------------------------------------------------------===//

  Value threadId() { return NVVM::ThreadIdXOp::create(*this, getI32Type()); }
  Value blockId() { return NVVM::BlockIdXOp::create(*this, getI32Type()); }
  Value numBlocks() { return NVVM::GridDimXOp::create(*this, getI32Type()); }
  void barrier() { NVVM::Barrier0Op::create(*this); }
  /// Of the threads of a warp: what they wrote before, they see afterwards.
  void syncWarp() { NVVM::SyncWarpOp::create(*this, i32(-1)); }

  /// An i32 or f32 of lane `lane`, `lane` lanes below (kind up), or lane
  /// own xor `lane` (kind bfly).
  Value shuffle(NVVM::ShflKind kind, Value value, Value lane);
  Value shuffleXor(Value value, int64_t lane) {
    return shuffle(NVVM::ShflKind::bfly, value, i32(lane));
  }
  /// A bit for each lane: whether `condition` holds there.
  Value ballot(Value condition);
  /// A bit for each lane: whether the i32 `value` is the same there.
  Value matchAny(Value value);
  /// The sum of `value` over the lanes below `lane`, the own, and itself.
  Value sumOfLanesUpTo(Value value, Value lane);
  /// Of an i32 of all lanes.
  Value reduce(NVVM::ReduxKind kind, Value value);
  /// An i32 that is the same in all lanes, so that ptxas knows it.
  Value uniform(Value value) {
    return shuffle(NVVM::ShflKind::idx, value, i32(0));
  }
  /// Runs `body` in one lane of a warp whose lanes all come here.
  void inOneLane(function_ref<void()> body) {
    onlyIf(NVVM::ElectSyncOp::create(*this, getI1Type(), Value()), body);
  }

private:
  Value constant(Type type, int64_t value) {
    return arith::ConstantOp::create(*this, getIntegerAttr(type, value));
  }
  template <typename Op>
  Value fold(Value x, Value y) {
    return createOrFold<Op>(x, y);
  }
};

} // namespace mlir::moe

#endif // LIB_CONVERSION_GPU_KERNELBUILDER_H
