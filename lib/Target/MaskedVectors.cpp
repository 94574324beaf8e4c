//===- MaskedVectors.cpp - Masked vectors of bf16 as integers ---*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MaskedVectors.h"

#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/Module.h"

using namespace llvm;

/// Of the same width; null where `type` is no vector of bf16.
static Type *getIntegers(Type *type) {
  auto *vector = dyn_cast<FixedVectorType>(type);
  if (!vector || !vector->getElementType()->isBFloatTy())
    return nullptr;
  return FixedVectorType::get(Type::getInt16Ty(type->getContext()),
                              vector->getNumElements());
}

static void replaceLoad(IntrinsicInst *load) {
  Type *integers = getIntegers(load->getType());
  if (!integers)
    return;
  IRBuilder<> b(load);
  Align alignment = load->getParamAlign(0).valueOrOne();
  Value *otherwise = b.CreateBitCast(load->getArgOperand(2), integers);
  Value *bits = b.CreateMaskedLoad(integers, load->getArgOperand(0), alignment,
                                   load->getArgOperand(1), otherwise);
  load->replaceAllUsesWith(b.CreateBitCast(bits, load->getType()));
  load->eraseFromParent();
}

static void replaceStore(IntrinsicInst *store) {
  Type *integers = getIntegers(store->getArgOperand(0)->getType());
  if (!integers)
    return;
  IRBuilder<> b(store);
  Align alignment = store->getParamAlign(1).valueOrOne();
  b.CreateMaskedStore(b.CreateBitCast(store->getArgOperand(0), integers),
                      store->getArgOperand(1), alignment,
                      store->getArgOperand(2));
  store->eraseFromParent();
}

void mlir::moe::maskBfloatsAsIntegers(Module &module) {
  for (Function &function : module)
    for (Instruction &instruction :
         llvm::make_early_inc_range(instructions(function)))
      if (auto *call = dyn_cast<IntrinsicInst>(&instruction)) {
        if (call->getIntrinsicID() == Intrinsic::masked_load)
          replaceLoad(call);
        else if (call->getIntrinsicID() == Intrinsic::masked_store)
          replaceStore(call);
      }
}
