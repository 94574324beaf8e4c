//===- CEntryBuilder.h - The C functions of an entry ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LIB_TARGET_ENTRY_CENTRYBUILDER_H
#define LIB_TARGET_ENTRY_CENTRYBUILDER_H

#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/SymbolTable.h"

namespace mlir::moe {

/// An entry at memref level: arguments, then results.
struct BufferEntry {
  func::FuncOp body, shapes;
  /// Null where the body takes no workspace.
  func::FuncOp workspace;
  /// What chooses a version of the body; null where there is but one.
  LLVM::LLVMFuncOp isa;
  /// What the body launches on a GPU; null where it runs on the CPU.
  LLVM::GlobalOp program;
  /// What the dynamic sizes of arguments are called, in their order: equal ones
  /// alike.
  SmallVector<std::string> sizeNames;
  SmallVector<MemRefType> types;
  int64_t numArguments = 0;
  /// The symbol in the IR, and the name that C sees.
  std::string name, cName;
  /// What the visible functions call: name.run, or name.run_stats, which takes
  /// a moe_stats * as well.
  std::string callee = ".run";
  /// Tensors are slabs of experts, one behind the other: there is a function
  /// for one expert, too.
  bool hasSlabs = false;
  bool hasStats() const { return callee == ".run_stats"; }

  ArrayRef<MemRefType> getArguments() const {
    return ArrayRef(types).take_front(numArguments);
  }
  ArrayRef<MemRefType> getResults() const {
    return ArrayRef(types).drop_front(numArguments);
  }
  int64_t getNumResultSizes() const {
    int64_t count = 0;
    for (MemRefType type : getResults())
      count += type.getRank();
    return count;
  }
};

/// Builds the functions of one entry.
class CEntryBuilder {
public:
  CEntryBuilder(BufferEntry &entry, const LLVMTypeConverter &converter)
      : entry(entry), converter(converter),
        b(entry.shapes.getLoc(), entry.shapes.getContext()),
        ptr(LLVM::LLVMPointerType::get(b.getContext())), i32(b.getI32Type()),
        i64(b.getI64Type()) {
    b.setInsertionPointAfter(entry.shapes);
  }

  /// NAME.check and NAME.run.
  void buildInternal();
  /// What C sees.
  void buildVisible(bool exportShapes);

private:
  LLVM::LLVMFuncOp startFunction(const Twine &name, ArrayRef<Type> arguments,
                                 LLVM::Linkage linkage, Type result);
  void buildCheck();
  void buildRun();
  void buildNamed();
  void buildPacked();
  void buildWorkspace();
  void buildWorkspacePacked();
  void buildShapes();
  void buildError();
  void buildRunExpert();
  void buildExpert();
  void buildExpertPacked();

  Value constant(Type type, int64_t value) {
    return LLVM::ConstantOp::create(b, type, b.getIntegerAttr(type, value));
  }
  /// In the entry block, wherever it is needed, so that it is promoted.
  Value allocate(Type elementType, int64_t count) {
    OpBuilder::InsertionGuard guard(b);
    Region *function = b.getInsertionBlock()->getParent();
    b.setInsertionPointToStart(&function->front());
    return LLVM::AllocaOp::create(b, ptr, elementType, constant(i64, count));
  }
  /// The address of element `i` of an array.
  Value at(Value array, Type elementType, int64_t i) {
    return LLVM::GEPOp::create(b, ptr, elementType, array,
                               ArrayRef<LLVM::GEPArg>{int32_t(i)});
  }
  Value load(Type type, Value address) {
    return LLVM::LoadOp::create(b, type, address);
  }
  Value cast(Value value, Type type) {
    return UnrealizedConversionCastOp::create(b, type, value).getResult(0);
  }
  Value call(StringRef callee, ValueRange operands) {
    return LLVM::CallOp::create(b, TypeRange{i32},
                                FlatSymbolRefAttr::get(b.getContext(), callee),
                                operands)
        .getResult();
  }
  /// Calls what the visible functions call, with as many of `operands` as it
  /// takes.
  Value callRun(ValueRange operands) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<LLVM::LLVMFuncOp>(
        entry.shapes, b.getStringAttr(local(entry.callee)));
    return call(callee.getName(),
                operands.take_front(callee.getNumArguments()));
  }
  /// A symbol that only this module sees.
  std::string local(StringRef suffix) { return entry.name + suffix.str(); }

  /// The address of member `i` of the moe_tensor at `tensor`, and the member.
  Value getMember(Value tensor, int32_t i);
  Value loadMember(Value tensor, int32_t i, Type type);
  Value isOk(Value status);
  /// Returns from the function with `result` unless `condition` holds.
  void returnUnless(Value condition, Value result);
  /// Returns from the function with `status` unless it is 0.
  void returnUnlessOk(Value status) { returnUnless(isOk(status), status); }
  /// Checks tensor `position` against `sizes`, and returns unless it passes.
  void check(Value tensors, int64_t position, MemRefType type, Value sizes);
  /// A moe_tensor for the slab of `expert` in tensor `position`, which must be
  /// one of its experts.
  Value makeSlab(Value tensors, int64_t position, Value expert);
  /// The dynamic sizes of the arguments, as indices.
  SmallVector<Value> loadDynamicSizes(Value arguments);
  /// Calls NAME.workspace; an i64.
  Value countWorkspace(ValueRange dynamicSizes);
  /// Returns from the function unless the workspace is all that `needed` asks.
  void checkWorkspace(Value workspace, Value bytes, Value needed);
  /// Returns from the function unless the machine can run the body.
  void checkMachine();
  /// Returns from the function unless data is aligned as GPU kernels need it.
  void checkAlignment(Value tensors, int64_t position);
  /// Begins a call of the program; returns from the function unless it can be.
  Value beginCall(Value stream);
  /// MOE_DEVICE_ERROR, if the call or `result` failed.
  Value toStatus(Value result);
  /// A function of the run time.
  LLVM::LLVMFuncOp declare(StringRef name, Type result, ArrayRef<Type> types);
  /// The sizes that are static, in an array on the stack; -1 for the others.
  Value storeStaticSizes(MemRefType type);
  /// Tensor `position` as a memref.
  Value makeMemRef(Value tensors, int64_t position);
  /// The workspace as a memref<?xi8>.
  Value makeWorkspaceMemRef(Value workspace, Value bytes);

  BufferEntry &entry;
  const LLVMTypeConverter &converter;
  ImplicitLocOpBuilder b;
  Type ptr, i32, i64;
};

} // namespace mlir::moe

#endif // LIB_TARGET_ENTRY_CENTRYBUILDER_H
