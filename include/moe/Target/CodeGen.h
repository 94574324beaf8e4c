//===- CodeGen.h - From the LLVM dialect to machine code --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// LLVM IR, assembly and object code of a lowered module. The ahead-of-time
/// compiler and the JIT both take this way, so both run the same code.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_TARGET_CODEGEN_H
#define MOE_TARGET_CODEGEN_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"
#include "llvm/Target/TargetMachine.h"
#include <memory>
#include <string>

namespace mlir::moe {

/// How tensors become code.
enum class LoweringKind {
  General, ///< Simple loops: the reference (moe-general-lowering).
  CPU      ///< Fused, with vector code and threads (moe-cpu-lowering).
};

/// What to compile for.
struct CodeGenOptions {
  /// A target triple; empty for this machine's.
  std::string triple;
  /// An LLVM cpu name ("x86-64-v3", "znver4"), or "native" for this machine
  /// with the features that its operating system lets us use.
  std::string cpu = "native";
  /// 0 to 3, as in -O3.
  unsigned optLevel = 3;
  LoweringKind lowering = LoweringKind::General;
};

/// Makes position-independent code for `options`. Fails with a hint on a triple
/// or cpu that LLVM does not know, on "native" for a foreign triple, and on a
/// target without 64-bit pointers.
llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
createTargetMachine(const CodeGenOptions &options);

/// What moe-select-cpu-strategy calls the vector instructions of `target`:
/// avx512bf16, avx512, avx2, or generic for all others.
std::string getVectorISA(const llvm::TargetMachine &target);

/// Translates a lowered module to LLVM IR for `target`. Only the symbols in
/// `exported` stay visible; everything else defined there becomes internal.
/// Fails if a symbol of `exported` is not defined, or is a function of the C
/// library or a keyword of C.
llvm::Expected<std::unique_ptr<llvm::Module>>
translateToLLVMIR(ModuleOp module, llvm::TargetMachine &target,
                  llvm::ArrayRef<std::string> exported,
                  llvm::LLVMContext &context);

/// Runs LLVM's default pipeline of the target's optimization level.
void optimize(llvm::Module &module, llvm::TargetMachine &target);

/// The module as an object file or as assembly. May change the module.
llvm::Expected<llvm::SmallVector<char, 0>>
emitMachineCode(llvm::Module &module, llvm::TargetMachine &target,
                llvm::CodeGenFileType kind);

} // namespace mlir::moe

#endif // MOE_TARGET_CODEGEN_H
