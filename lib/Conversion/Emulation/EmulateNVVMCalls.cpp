//===- EmulateNVVMCalls.cpp - Calls of the emulation library -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "EmulateNVVM.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

Value EmulationCalls::call(Operation *op, StringRef name, Type result,
                           ValueRange args) {
  LLVM::LLVMFuncOp &function = functions[name];
  if (!function) {
    OpBuilder atEnd = OpBuilder::atBlockEnd(module.getBody());
    Type returned = result ? result : LLVM::LLVMVoidType::get(b.getContext());
    function = LLVM::LLVMFuncOp::create(
        atEnd, module.getLoc(), name,
        LLVM::LLVMFunctionType::get(returned,
                                    llvm::to_vector(args.getTypes())));
  }
  b.setInsertionPoint(op);
  auto call = LLVM::CallOp::create(b, op->getLoc(), function, args);
  return result ? call.getResult() : Value();
}

/// "file:line:column" of the innermost place in a file.
static std::string describeLocation(Location loc) {
  std::string text;
  loc->walk([&](Location inner) {
    if (auto file = dyn_cast<FileLineColLoc>(inner)) {
      text = llvm::formatv("{0}:{1}:{2}", file.getFilename().getValue(),
                           file.getLine(), file.getColumn());
      return WalkResult::interrupt();
    }
    if (auto name = dyn_cast<NameLoc>(inner))
      if (text.empty())
        text = name.getName().str();
    return WalkResult::advance();
  });
  return text;
}

Value EmulationCalls::site(Operation *op) {
  std::string where = op->getName().getStringRef().str();
  std::string location = describeLocation(op->getLoc());
  if (!location.empty())
    where += " at " + location;
  return text(op, where);
}

Value EmulationCalls::text(Operation *op, StringRef text) {
  LLVM::GlobalOp &global = texts[text];
  if (!global) {
    OpBuilder atEnd = OpBuilder::atBlockEnd(module.getBody());
    std::string value = text.str() + '\0';
    auto type = LLVM::LLVMArrayType::get(b.getI8Type(), value.size());
    global = LLVM::GlobalOp::create(
        atEnd, module.getLoc(), type, /*isConstant=*/true,
        LLVM::Linkage::Internal, "moe_emu_text" + std::to_string(texts.size()),
        b.getStringAttr(value));
  }
  b.setInsertionPoint(op);
  return LLVM::AddressOfOp::create(b, op->getLoc(), global);
}

Value EmulationCalls::i32(Operation *op, int64_t value) {
  b.setInsertionPoint(op);
  return LLVM::ConstantOp::create(b, op->getLoc(), b.getI32Type(), value);
}

Value EmulationCalls::i8(Operation *op, int64_t value) {
  b.setInsertionPoint(op);
  return LLVM::ConstantOp::create(b, op->getLoc(), b.getI8Type(), value);
}

Value EmulationCalls::i32Or(Operation *op, Value value, int64_t otherwise) {
  return value ? value : i32(op, otherwise);
}

Value EmulationCalls::byte(Operation *op, Value bit) {
  b.setInsertionPoint(op);
  return LLVM::ZExtOp::create(b, op->getLoc(), b.getI8Type(), bit);
}

Value EmulationCalls::bit(Operation *op, Value byte) {
  b.setInsertionPoint(op);
  Value zero = LLVM::ConstantOp::create(b, op->getLoc(), byte.getType(), 0);
  return LLVM::ICmpOp::create(b, op->getLoc(), LLVM::ICmpPredicate::ne, byte,
                              zero);
}

Value EmulationCalls::generic(Operation *op, Value pointer) {
  if (pointer.getType() == pointerType())
    return pointer;
  b.setInsertionPoint(op);
  return LLVM::AddrSpaceCastOp::create(b, op->getLoc(), pointerType(), pointer);
}

Value EmulationCalls::asI32(Operation *op, Value value) {
  if (value.getType().isInteger(32))
    return value;
  b.setInsertionPoint(op);
  return LLVM::BitcastOp::create(b, op->getLoc(), b.getI32Type(), value);
}

Value EmulationCalls::fromI32(Operation *op, Value word, Type type) {
  if (type == word.getType())
    return word;
  b.setInsertionPoint(op);
  return LLVM::BitcastOp::create(b, op->getLoc(), type, word);
}

Value EmulationCalls::buffer(Operation *op, unsigned which, unsigned words) {
  auto function = op->getParentOfType<LLVM::LLVMFuncOp>();
  LLVM::AllocaOp &memory = buffers[function][which];
  if (memory) {
    auto type = cast<LLVM::LLVMArrayType>(memory.getElemType());
    if (type.getNumElements() < words)
      memory.setElemType(LLVM::LLVMArrayType::get(b.getI32Type(), words));
    return memory;
  }
  OpBuilder atStart = OpBuilder::atBlockBegin(&function.getBody().front());
  Value one =
      LLVM::ConstantOp::create(atStart, op->getLoc(), b.getI32Type(), 1);
  memory = LLVM::AllocaOp::create(
      atStart, op->getLoc(), pointerType(),
      LLVM::LLVMArrayType::get(b.getI32Type(), words), one, /*alignment=*/16);
  return memory;
}

static Value wordAddress(OpBuilder &b, Location loc, Value buffer, unsigned i) {
  return LLVM::GEPOp::create(b, loc, buffer.getType(), b.getI32Type(), buffer,
                             ArrayRef<LLVM::GEPArg>{int32_t(i)});
}

void EmulationCalls::storeWord(Operation *op, Value buffer, unsigned i,
                               Value word) {
  b.setInsertionPoint(op);
  LLVM::StoreOp::create(b, op->getLoc(), word,
                        wordAddress(b, op->getLoc(), buffer, i));
}

Value EmulationCalls::loadWord(Operation *op, Value buffer, unsigned i) {
  b.setInsertionPoint(op);
  return LLVM::LoadOp::create(b, op->getLoc(), b.getI32Type(),
                              wordAddress(b, op->getLoc(), buffer, i));
}
