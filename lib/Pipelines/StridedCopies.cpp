//===- StridedCopies.cpp - Copies that are no memcpy ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// Upstream lowers a memref.copy between buffers that are not contiguous to a
/// call of memrefCopy, a function of MLIR's run time library. An artifact has
/// no such library, so these copies become loops.
///
//===----------------------------------------------------------------------===//

#include "StridedCopies.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/MemRef/Utils/MemRefUtils.h"
#include "mlir/Pass/Pass.h"

using namespace mlir;
using namespace mlir::moe;

/// Whether upstream takes `type` for one piece of memory.
static bool isContiguous(Value buffer) {
  auto type = dyn_cast<MemRefType>(buffer.getType());
  return type && (type.getLayout().isIdentity() ||
                  (type.hasStaticShape() && type.getNumElements() > 0 &&
                   memref::isStaticShapeAndContiguousRowMajor(type)));
}

namespace {
struct StridedCopiesPass : PassWrapper<StridedCopiesPass, OperationPass<>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(StridedCopiesPass)

  StringRef getName() const override { return "StridedCopies"; }

  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<linalg::LinalgDialect>();
  }

  void runOnOperation() override {
    getOperation()->walk([](memref::CopyOp copy) {
      if (!isa<MemRefType>(copy.getSource().getType()) ||
          !isa<MemRefType>(copy.getTarget().getType()) ||
          (isContiguous(copy.getSource()) && isContiguous(copy.getTarget())))
        return;
      OpBuilder builder(copy);
      linalg::makeMemRefCopyOp(builder, copy.getLoc(), copy.getSource(),
                               copy.getTarget());
      copy.erase();
    });
  }
};
} // namespace

std::unique_ptr<Pass> mlir::moe::createStridedCopiesPass() {
  return std::make_unique<StridedCopiesPass>();
}
