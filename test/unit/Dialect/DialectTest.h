//===- DialectTest.h - What tests of the dialect start from -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_DIALECT_DIALECTTEST_H
#define MOE_TEST_UNIT_DIALECT_DIALECTTEST_H

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/IR/Verifier.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "gtest/gtest.h"

namespace mlir::moe {

/// A module, and a builder that adds to it. Diagnostics are kept for the test.
class DialectTest : public ::testing::Test {
protected:
  DialectTest()
      : context(registry()), builder(&context), loc(builder.getUnknownLoc()),
        module(ModuleOp::create(loc)),
        handler(&context, [this](Diagnostic &diagnostic) {
          errors += diagnostic.str() + "\n";
          return success();
        }) {
    context.loadAllAvailableDialects();
    builder.setInsertionPointToStart(module->getBody());
  }

  /// Starts a function with arguments of the given types, to build in.
  Block::BlockArgListType startFunction(TypeRange types) {
    builder.setInsertionPointToEnd(module->getBody());
    auto function =
        func::FuncOp::create(builder, loc, "f" + std::to_string(numFunctions++),
                             builder.getFunctionType(types, {}));
    builder.setInsertionPointToStart(function.addEntryBlock());
    func::ReturnOp::create(builder, loc);
    builder.setInsertionPoint(&function.getBody().front().back());
    return function.getArguments();
  }

  bool verifies() { return succeeded(verify(*module)); }

  RankedTensorType tensor(ArrayRef<int64_t> shape, Type elementType = {}) {
    return RankedTensorType::get(
        shape, elementType ? elementType : Type(builder.getF32Type()));
  }
  MemRefType memref(ArrayRef<int64_t> shape, Type elementType = {}) {
    return MemRefType::get(shape, elementType ? elementType
                                              : Type(builder.getF32Type()));
  }

  static constexpr int64_t kDynamic = ShapedType::kDynamic;

  MLIRContext context;
  OpBuilder builder;
  Location loc;
  OwningOpRef<ModuleOp> module;
  std::string errors;

private:
  static DialectRegistry registry() {
    DialectRegistry registry;
    registry.insert<MoEDialect, affine::AffineDialect, arith::ArithDialect,
                    func::FuncDialect, memref::MemRefDialect,
                    tensor::TensorDialect>();
    return registry;
  }

  ScopedDiagnosticHandler handler;
  int numFunctions = 0;
};

} // namespace mlir::moe

#endif // MOE_TEST_UNIT_DIALECT_DIALECTTEST_H
