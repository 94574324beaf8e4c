//===- DefaultLayout.cpp - Operands that lie as kernels want them ---------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DefaultLayout.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// Memory in the default layout, with what `view` holds. A destination is
/// copied, too: an op need not write all of it.
static Value buildCopy(ImplicitLocOpBuilder &b, Value view) {
  auto type = cast<MemRefType>(view.getType());
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    if (type.isDynamicDim(dim))
      sizes.push_back(memref::DimOp::create(b, view, dim));
  auto memory = memref::AllocOp::create(
      b, MemRefType::get(type.getShape(), type.getElementType()), sizes);
  memref::CopyOp::create(b, view, memory);
  return memory;
}

bool mlir::moe::copyToDefaultLayout(Operation *op, ValueRange values) {
  auto destinations = cast<DestinationStyleOpInterface>(op);
  DenseMap<Value, Value> copies;
  for (OpOperand &operand : op->getOpOperands()) {
    Value view = operand.get();
    auto type = dyn_cast<MemRefType>(view.getType());
    if (!values.empty() && !llvm::is_contained(values, view))
      continue;
    if (!type || type.getLayout().isIdentity())
      continue;
    Value &copy = copies[view];
    if (!copy) {
      ImplicitLocOpBuilder before(op->getLoc(), op);
      copy = buildCopy(before, view);
      remark::missed(
          op->getLoc(),
          remark::RemarkOpts::name("gpu-layout").category("MoELowerToGPU"))
          << llvm::formatv("a {0} is copied: kernels take buffers in the "
                           "default layout",
                           type)
                 .str();
    }
    operand.set(copy);
    if (!destinations.isDpsInit(&operand))
      continue;
    OpBuilder after(op->getContext());
    after.setInsertionPointAfter(op);
    memref::CopyOp::create(after, op->getLoc(), copy, view);
  }
  return !copies.empty();
}
