//===- RandomLayerTest.cpp - Random layers through everything ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every valid layer verifies, survives text and bytecode, stays valid under
// canonicalization and CSE, decomposes, bufferizes, and lowers to LLVM IR that
// verifies. What the layers compute is python/tests/test_properties.py's.
//
//===----------------------------------------------------------------------===//

#include "RandomLayer.h"
#include "FuzzHarness.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/MoE/IR/MoE.h"
#include "moe/Dialect/MoE/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Verifier.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::test;

/// Text or bytecode that says what `module` says.
static void checkParsesAs(StringRef bytes, ModuleOp module,
                          const ErrorCollector &errors) {
  OwningOpRef<ModuleOp> again = parse(bytes, module.getContext());
  ASSERT_TRUE(again) << errors.getText();
  ASSERT_TRUE(succeeded(verify(*again))) << errors.getText();
  EXPECT_EQ(print(*again), print(module));
}

static void checkRoundTrips(ModuleOp module, const ErrorCollector &errors) {
  checkParsesAs(print(module), module, errors);
  checkParsesAs(writeBytecode(module), module, errors);
  std::string generic;
  llvm::raw_string_ostream os(generic);
  module.print(os, OpPrintingFlags().printGenericOpForm());
  checkParsesAs(generic, module, errors);
}

/// Runs passes on a copy, which must succeed, and returns it.
static OwningOpRef<ModuleOp>
runOnCopy(ModuleOp module, const ErrorCollector &errors,
          llvm::function_ref<void(OpPassManager &)> build) {
  OwningOpRef<ModuleOp> copy = module.clone();
  EXPECT_TRUE(succeeded(runPasses(*copy, build))) << errors.getText();
  return copy;
}

template <typename DialectTy>
static int countOps(ModuleOp module) {
  int count = 0;
  module.walk(
      [&](Operation *op) { count += isa<DialectTy>(op->getDialect()); });
  return count;
}

static void checkDecomposes(ModuleOp module, const ErrorCollector &errors) {
  OwningOpRef<ModuleOp> decomposed =
      runOnCopy(module, errors,
                [](OpPassManager &pm) { pm.addPass(createMoEDecompose()); });
  EXPECT_EQ(countOps<MoEDialect>(*decomposed), 0);
}

/// On memrefs the ops survive text, and decompose between two bufferizations.
/// moe.expert has no such form.
static void checkBufferizes(ModuleOp module, const ErrorCollector &errors) {
  if (module.walk([](ExpertOp) { return WalkResult::interrupt(); })
          .wasInterrupted())
    return;
  bufferization::OneShotBufferizePassOptions options;
  options.bufferizeFunctionBoundaries = true;
  OwningOpRef<ModuleOp> onMemrefs =
      runOnCopy(module, errors, [&](OpPassManager &pm) {
        pm.addPass(bufferization::createOneShotBufferizePass(options));
      });
  ASSERT_FALSE(testing::Test::HasFailure());
  EXPECT_EQ(countOps<MoEDialect>(*onMemrefs), countOps<MoEDialect>(module));
  checkRoundTrips(*onMemrefs, errors);
  OwningOpRef<ModuleOp> decomposed =
      runOnCopy(*onMemrefs, errors, [&](OpPassManager &pm) {
        pm.addPass(createMoEDecompose());
        pm.addPass(bufferization::createOneShotBufferizePass(options));
      });
  EXPECT_EQ(countOps<MoEDialect>(*decomposed), 0);
}

static void checkLowers(ModuleOp module, const ErrorCollector &errors,
                        const GeneralLoweringOptions &options) {
  OwningOpRef<ModuleOp> lowered =
      runOnCopy(module, errors, [&](OpPassManager &pm) {
        buildGeneralLoweringPipeline(pm, options);
      });
  if (testing::Test::HasFailure())
    return;
  int numOps = 0;
  lowered->walk([&](Operation *) { ++numOps; });
  EXPECT_EQ(countOps<LLVM::LLVMDialect>(*lowered), numOps - 1); // The module.
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> translated =
      translateModuleToLLVMIR(*lowered, context);
  ASSERT_TRUE(translated) << errors.getText();
  EXPECT_FALSE(llvm::verifyModule(*translated, &llvm::errs()));
}

TEST(RandomLayerTest, EverythingWorks) {
  runRounds(200, [](Random &random) {
    std::unique_ptr<MLIRContext> context = createContext();
    OwningOpRef<ModuleOp> module = makeRandomLayer(random, context.get());
    setRoundInput(print(*module));
    ErrorCollector errors(context.get());
    ASSERT_TRUE(succeeded(verify(*module))) << errors.getText();
    ASSERT_NO_FATAL_FAILURE(checkRoundTrips(*module, errors));
    checkDecomposes(*module, errors);
    OwningOpRef<ModuleOp> simple =
        runOnCopy(*module, errors, [](OpPassManager &pm) {
          pm.addPass(createCanonicalizerPass());
          pm.addPass(createCSEPass());
          pm.addPass(createCanonicalizerPass());
        });
    ASSERT_FALSE(testing::Test::HasFailure());
    ASSERT_NO_FATAL_FAILURE(checkRoundTrips(*simple, errors));
    checkDecomposes(*simple, errors);
    ASSERT_NO_FATAL_FAILURE(checkBufferizes(*module, errors));
    GeneralLoweringOptions options;
    options.runtimeVerification = random.oneIn(2);
    options.plainLoops = random.oneIn(4);
    checkLowers(*module, errors, options);
  });
}
