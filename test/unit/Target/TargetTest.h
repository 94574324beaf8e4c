//===- TargetTest.h - What the tests of MoETarget share ---------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_UNIT_TARGET_TARGETTEST_H
#define MOE_TEST_UNIT_TARGET_TARGETTEST_H

#include "Common/Registration.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "moe/Target/Lowering.h"
#include "llvm/Support/Error.h"
#include "gtest/gtest.h"
#include <string>

namespace mlir::moe {

/// A context with all dialects, whose diagnostics are gathered as text.
class TargetTest : public ::testing::Test {
protected:
  TargetTest() {
    DialectRegistry registry;
    registerToolDialects(registry);
    context.appendDialectRegistry(registry);
    // Death tests fork.
    context.disableMultithreading();
    context.getDiagEngine().registerHandler([this](Diagnostic &diagnostic) {
      diagnostics += diagnostic.str() + "\n";
    });
  }

  OwningOpRef<ModuleOp> parse(llvm::StringRef text) {
    auto module = parseSourceString<ModuleOp>(text, ParserConfig(&context));
    EXPECT_TRUE(module) << diagnostics;
    return module;
  }

  MLIRContext context;
  std::string diagnostics;
};

/// The text of an error; empty for success.
inline std::string textOf(llvm::Error error) {
  return llvm::toString(std::move(error));
}

} // namespace mlir::moe

#endif // MOE_TEST_UNIT_TARGET_TARGETTEST_H
