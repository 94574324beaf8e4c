//===- host-compiler.cpp - A compiler that embeds the MoE compiler --------===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Builds a function of its own with a layer in it, next to one that has nothing
// to do with MoE, and prints the module: as built, or with --lower after our
// pipeline, which must leave the other function alone.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "moe/Dialect/MoE/Utils/LayerBuilder.h"
#include "moe/InitAll.h"
#include "moe/Pipelines/Pipelines.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

static func::FuncOp startFunction(OpBuilder &builder, ModuleOp module,
                                  StringRef name, TypeRange inputs,
                                  TypeRange results) {
  builder.setInsertionPointToEnd(module.getBody());
  auto function =
      func::FuncOp::create(builder, builder.getUnknownLoc(), name,
                           builder.getFunctionType(inputs, results));
  builder.setInsertionPointToStart(function.addEntryBlock());
  return function;
}

/// x + layer(x), with a Mixtral-like layer of 4 experts, 2 of them a token.
static LogicalResult buildBlock(OpBuilder &builder, ModuleOp module) {
  Location loc = builder.getUnknownLoc();
  auto tensor = [&](ArrayRef<int64_t> shape) {
    return RankedTensorType::get(shape, builder.getF32Type());
  };
  Type tokens = tensor({ShapedType::kDynamic, 8});
  func::FuncOp function =
      startFunction(builder, module, "block",
                    {tokens, tensor({4, 8}), tensor({4, 6, 8}),
                     tensor({4, 6, 8}), tensor({4, 8, 6})},
                    tokens);
  StringRef names[] = {"x", "router", "gate", "up", "down"};
  for (auto [i, name] : llvm::enumerate(names))
    function.setArgAttr(i, "moe.name", builder.getStringAttr(name));
  moe::LayerSpec spec;
  spec.x = function.getArgument(0);
  spec.router = function.getArgument(1);
  spec.gateProj = function.getArgument(2);
  spec.upProj = function.getArgument(3);
  spec.downProj = function.getArgument(4);
  spec.topK = 2;
  spec.renormalize = moe::RenormalizeAttr::get(builder.getContext(), nullptr,
                                               moe::EpsMode::Add);
  FailureOr<Value> y = moe::buildLayer(builder, loc, spec);
  if (failed(y))
    return failure();
  Value sum = arith::AddFOp::create(builder, loc, spec.x, *y);
  func::ReturnOp::create(builder, loc, sum);
  return success();
}

/// Something of the host's: 2·x on tensors, which no pass of ours may touch.
static void buildBystander(OpBuilder &builder, ModuleOp module) {
  Type type = RankedTensorType::get({4}, builder.getF32Type());
  func::FuncOp function =
      startFunction(builder, module, "bystander", type, type);
  Value x = function.getArgument(0);
  Value twice = arith::AddFOp::create(builder, builder.getUnknownLoc(), x, x);
  func::ReturnOp::create(builder, builder.getUnknownLoc(), twice);
}

int main(int argc, char **argv) {
  bool lower = argc == 2 && StringRef(argv[1]) == "--lower";
  if (argc > 1 && !lower) {
    llvm::errs() << "usage: host-compiler [--lower]\n";
    return 1;
  }
  DialectRegistry registry;
  moe::registerAllDialects(registry);
  moe::registerAllExtensions(registry);
  MLIRContext context(registry);
  context.loadAllAvailableDialects();

  OpBuilder builder(&context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(builder.getUnknownLoc());
  buildBystander(builder, *module);
  if (failed(buildBlock(builder, *module)) || failed(verify(*module)))
    return 1;

  if (lower) {
    PassManager manager(&context);
    moe::buildGeneralLoweringPipeline(manager);
    if (failed(manager.run(*module)))
      return 1;
  }
  module->print(llvm::outs());
  return 0;
}
