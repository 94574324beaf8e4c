//===- CheckedMalloc.cpp - Running out of memory ----------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CheckedMalloc.h"

#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"

using namespace mlir::moe;

/// { p = malloc(n); if (!p && n) abort(); return p; }
static void buildBody(llvm::Function &function, llvm::Function &malloc) {
  llvm::LLVMContext &context = function.getContext();
  auto *entry = llvm::BasicBlock::Create(context, "entry", &function);
  auto *fail = llvm::BasicBlock::Create(context, "fail", &function);
  auto *done = llvm::BasicBlock::Create(context, "done", &function);
  llvm::IRBuilder<> builder(entry);
  llvm::Value *size = function.getArg(0);
  llvm::Value *memory = builder.CreateCall(&malloc, size);
  builder.CreateCondBr(builder.CreateAnd(builder.CreateIsNull(memory),
                                         builder.CreateIsNotNull(size)),
                       fail, done);
  builder.SetInsertPoint(fail);
  llvm::FunctionCallee abort =
      function.getParent()->getOrInsertFunction("abort", builder.getVoidTy());
  builder.CreateCall(abort)->setDoesNotReturn();
  builder.CreateUnreachable();
  builder.SetInsertPoint(done);
  builder.CreateRet(memory);
}

void mlir::moe::checkMalloc(llvm::Module &module) {
  llvm::Function *malloc = module.getFunction("malloc");
  if (!malloc || !malloc->isDeclaration())
    return;
  auto *checked = llvm::Function::Create(malloc->getFunctionType(),
                                         llvm::GlobalValue::InternalLinkage,
                                         "moe.malloc", &module);
  // Inlined, LLVM sees malloc again, and knows what it returns.
  checked->addFnAttr(llvm::Attribute::AlwaysInline);
  malloc->replaceAllUsesWith(checked);
  buildBody(*checked, *malloc);
}
