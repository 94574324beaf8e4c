//===- DeviceCapture.cpp - What a kernel needs from its host --------------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceCapture.h"

#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "moe/Dialect/MoE/IR/EntryAttributes.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult mlir::moe::emitNeededOnHost(Operation *op, Operation *user) {
  InFlightDiagnostic error =
      op->emitOpError("is computed on the GPU, and the host would need the "
                      "value for '")
      << user->getName() << "'";
  error.attachNote(user->getLoc())
      << "here; sizes and bounds may depend on the sizes of arguments, not on "
         "their data";
  return error;
}

//===----------------------------------------------------------------------===//
// LazyValues
//===----------------------------------------------------------------------===//

LazyValues::LazyValues(func::FuncOp function) : function(function) {
  auto entry = function->getAttrOfType<DictionaryAttr>(kEntryAttr);
  auto results = entry ? entry.getAs<IntegerAttr>("results") : IntegerAttr();
  if (!results)
    return;
  unsigned others = results.getInt() + (entry.get("workspace") ? 1 : 0);
  if (others <= function.getNumArguments())
    numReadOnly = function.getNumArguments() - others;
}

bool LazyValues::add(Operation *op) {
  auto takes = [&] {
    if (isa<memref::GetGlobalOp>(op))
      return true;
    auto isLazy = [&](Value operand) {
      return ops.contains(operand.getDefiningOp());
    };
    if (auto load = dyn_cast<memref::LoadOp>(op)) {
      Value buffer = load.getMemRef();
      while (auto view = buffer.getDefiningOp<ViewLikeOpInterface>())
        buffer = view.getViewSource();
      auto argument = dyn_cast<BlockArgument>(buffer);
      return isLazy(buffer) ||
             (argument && argument.getOwner()->getParentOp() == function &&
              argument.getArgNumber() < numReadOnly);
    }
    return isMemoryEffectFree(op) && op->getNumRegions() == 0 &&
           !op->hasTrait<OpTrait::IsTerminator>() &&
           !isa<memref::ExtractAlignedPointerAsIndexOp>(op) &&
           llvm::any_of(op->getOperands(), isLazy);
  };
  return takes() && ops.insert(op);
}

LogicalResult LazyValues::eraseAll() {
  for (Operation *op : llvm::reverse(ops)) {
    if (!op->use_empty())
      return emitNeededOnHost(op, *op->user_begin());
    op->erase();
  }
  return success();
}

//===----------------------------------------------------------------------===//
// DeviceCapture
//===----------------------------------------------------------------------===//

LogicalResult
DeviceCapture::addUses(Operation *op,
                       const llvm::SmallPtrSetImpl<Operation *> &moved) {
  auto isInside = [&](Value value) {
    Operation *owner = value.getDefiningOp();
    if (!owner)
      owner = cast<BlockArgument>(value).getOwner()->getParentOp();
    for (; owner; owner = owner->getParentOp())
      if (moved.contains(owner))
        return true;
    return false;
  };
  auto addAll = [&](Operation *inner) -> WalkResult {
    for (Value operand : inner->getOperands())
      if (!isInside(operand) && failed(add(operand, inner)))
        return WalkResult::interrupt();
    return WalkResult::advance();
  };
  return failure(op->walk(addAll).wasInterrupted());
}

LogicalResult DeviceCapture::add(Value value, Operation *user) {
  Operation *op = value.getDefiningOp();
  auto addOp = [&]() -> LogicalResult {
    for (Value operand : op->getOperands())
      if (failed(add(operand, op)))
        return failure();
    cloned.insert(op);
    return success();
  };
  if (op && (matchPattern(value, m_Constant()) || lazy.contains(op)))
    return addOp();
  if (value.getType().isIntOrIndexOrFloat()) {
    scalars.insert(value);
    return success();
  }
  auto type = dyn_cast<MemRefType>(value.getType());
  if (type && type.getLayout().isIdentity() && !type.getMemorySpace()) {
    buffers.insert(value);
    return success();
  }
  if (type && op && isMemoryEffectFree(op))
    return addOp();
  return user->emitOpError("uses a ")
         << value.getType()
         << " from above, which a kernel cannot be given; make it a memref in "
            "the default layout";
}

void DeviceCapture::addScalar(Value value) {
  if (matchPattern(value, m_Constant()))
    cloned.insert(value.getDefiningOp());
  else
    scalars.insert(value);
}

void DeviceCapture::buildHostValues(ImplicitLocOpBuilder &b) {
  auto toI64 = [&](Value index) -> Value {
    return arith::IndexCastOp::create(b, b.getI64Type(), index);
  };
  for (Value buffer : buffers) {
    parameters.addBuffer(buffer);
    auto type = cast<MemRefType>(buffer.getType());
    for (int64_t dim = 0; dim < type.getRank(); ++dim) {
      if (!type.isDynamicDim(dim))
        continue;
      Value size = toI64(b.createOrFold<memref::DimOp>(buffer, dim));
      parameters.addScalar(size);
      hostSizes[buffer].push_back(size);
    }
  }
  for (Value scalar : scalars) {
    Value passed = scalar.getType().isIndex() ? toI64(scalar) : scalar;
    parameters.addScalar(passed);
    hostScalars[scalar] = passed;
  }
}

/// `pointer` as a memref in the default layout; `sizes` are the dynamic ones.
static Value buildMemRef(KernelBuilder &b, MemRefType type, Value pointer,
                         ArrayRef<Value> sizes,
                         const LLVMTypeConverter &converter) {
  pointer = LLVM::AddrSpaceCastOp::create(b, b.pointerType(0), pointer);
  auto descriptor =
      MemRefDescriptor::poison(b, b.getLoc(), converter.convertType(type));
  descriptor.setAllocatedPtr(b, b.getLoc(), pointer);
  descriptor.setAlignedPtr(b, b.getLoc(), pointer);
  descriptor.setConstantOffset(b, b.getLoc(), 0);
  Value stride = b.i64(1);
  for (int64_t i = type.getRank() - 1; i >= 0; --i) {
    Value size;
    if (type.isDynamicDim(i)) {
      size = sizes.back();
      sizes = sizes.drop_back();
    } else {
      size = b.i64(type.getDimSize(i));
    }
    descriptor.setSize(b, b.getLoc(), i, size);
    descriptor.setStride(b, b.getLoc(), i, stride);
    stride = b.mul(stride, size);
  }
  return UnrealizedConversionCastOp::create(b, type, Value(descriptor))
      .getResult(0);
}

IRMapping DeviceCapture::buildDeviceValues(KernelBuilder &b,
                                           const IRMapping &toDevice) const {
  LLVMTypeConverter converter(b.getContext());
  IRMapping mapping;
  for (Value buffer : buffers) {
    SmallVector<Value> sizes;
    for (Value size : hostSizes.lookup(buffer))
      sizes.push_back(toDevice.lookup(size));
    mapping.map(buffer, buildMemRef(b, cast<MemRefType>(buffer.getType()),
                                    toDevice.lookup(buffer), sizes, converter));
  }
  for (Value scalar : scalars) {
    Value passed = toDevice.lookup(hostScalars.lookup(scalar));
    if (scalar.getType().isIndex())
      passed = arith::IndexCastOp::create(b, b.getIndexType(), passed);
    mapping.map(scalar, passed);
  }
  for (Operation *op : cloned)
    b.clone(*op, mapping);
  return mapping;
}
