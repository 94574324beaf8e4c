//===- FloatConversions.cpp - f16 and bf16 without instructions -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FloatConversions.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Linker/Linker.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Transforms/Utils/ModuleUtils.h"

using namespace mlir::moe;

/// Integer arithmetic on the bits, because an operation on half or bfloat in
/// here could call the very function that it is in. All round to nearest even,
/// once; a NaN stays a NaN and becomes quiet.
static constexpr llvm::StringLiteral kConversions = R"llvm(
; A double as the nearest float towards zero, with its last bit set if that is
; not the double: rounding the result once more, to fewer bits, is then right.
define float @moe.round_to_odd(double %d) {
  %near = fptrunc double %d to float
  %back = fpext float %near to double
  %bits = bitcast float %near to i32
  %d_bits = bitcast double %d to i64
  %back_bits = bitcast double %back to i64
  %magnitude = and i64 %d_bits, 9223372036854775807
  %back_magnitude = and i64 %back_bits, 9223372036854775807
  %is_above = icmp ugt i64 %back_magnitude, %magnitude
  %one_less = sub i32 %bits, 1
  %toward_zero = select i1 %is_above, i32 %one_less, i32 %bits
  %odd = or i32 %toward_zero, 1
  ; Equal, or a NaN.
  %is_done = fcmp ueq double %back, %d
  %result_bits = select i1 %is_done, i32 %bits, i32 %odd
  %result = bitcast i32 %result_bits to float
  ret float %result
}

define bfloat @__truncsfbf2(float %f) {
  %bits = bitcast float %f to i32
  %upper = lshr i32 %bits, 16
  %last = and i32 %upper, 1
  %bias = add i32 %last, 32767
  %biased = add i32 %bits, %bias
  %rounded = lshr i32 %biased, 16
  %quiet = or i32 %upper, 64
  %is_nan = fcmp uno float %f, 0.0
  %result = select i1 %is_nan, i32 %quiet, i32 %rounded
  %short = trunc i32 %result to i16
  %bf16 = bitcast i16 %short to bfloat
  ret bfloat %bf16
}

define bfloat @__truncdfbf2(double %d) {
  %odd = call float @moe.round_to_odd(double %d)
  %result = call bfloat @__truncsfbf2(float %odd)
  ret bfloat %result
}

define half @__truncsfhf2(float %f) {
  %bits = bitcast float %f to i32
  %magnitude = and i32 %bits, 2147483647
  %sign_bit = lshr i32 %bits, 16
  %sign = and i32 %sign_bit, 32768
  ; Normal numbers: drop 13 bits, and 112 from the exponent.
  %upper = lshr i32 %magnitude, 13
  %last = and i32 %upper, 1
  %bias = add i32 %last, -939520001     ; 4095 - (112 << 23)
  %biased = add i32 %magnitude, %bias
  %normal = lshr i32 %biased, 13
  ; Below 2^-14: adding 0.5, whose last bit is 2^-24, rounds.
  %small = bitcast i32 %magnitude to float
  %sum = fadd float %small, 0.5
  %sum_bits = bitcast float %sum to i32
  %subnormal = sub i32 %sum_bits, 1056964608 ; 0.5
  %is_small = icmp ult i32 %magnitude, 947912704 ; 2^-14
  %finite = select i1 %is_small, i32 %subnormal, i32 %normal
  %is_large = icmp uge i32 %magnitude, 1199570944 ; 2^16
  %or_infinity = select i1 %is_large, i32 31744, i32 %finite
  %payload = and i32 %upper, 1023
  %nan = or i32 %payload, 32256
  %is_nan = fcmp uno float %f, 0.0
  %unsigned = select i1 %is_nan, i32 %nan, i32 %or_infinity
  %result = or i32 %unsigned, %sign
  %short = trunc i32 %result to i16
  %f16 = bitcast i16 %short to half
  ret half %f16
}

define half @__truncdfhf2(double %d) {
  %odd = call float @moe.round_to_odd(double %d)
  %result = call half @__truncsfhf2(float %odd)
  ret half %result
}

define float @__extendhfsf2(half %h) {
  %short = bitcast half %h to i16
  %bits = zext i16 %short to i32
  %sign_bit = and i32 %bits, 32768
  %sign = shl i32 %sign_bit, 16
  %magnitude = and i32 %bits, 32767
  %shifted = shl i32 %magnitude, 13
  %normal = add i32 %shifted, 939524096 ; 112 << 23
  ; Subnormal numbers count 2^-24.
  %count = uitofp i32 %magnitude to float
  %small = fmul float %count, 0x3E70000000000000 ; 2^-24
  %subnormal = bitcast float %small to i32
  %is_small = icmp ult i32 %magnitude, 1024
  %finite = select i1 %is_small, i32 %subnormal, i32 %normal
  ; Infinities and NaNs.
  %special = or i32 %shifted, 2139095040
  %quiet = or i32 %special, 4194304
  %is_nan = icmp ugt i32 %magnitude, 31744
  %special_quiet = select i1 %is_nan, i32 %quiet, i32 %special
  %is_special = icmp uge i32 %magnitude, 31744
  %unsigned = select i1 %is_special, i32 %special_quiet, i32 %finite
  %result_bits = or i32 %unsigned, %sign
  %result = bitcast i32 %result_bits to float
  ret float %result
}
)llvm";

static bool isShortFloat(llvm::Type *type) {
  llvm::Type *scalar = type->getScalarType();
  return scalar->isHalfTy() || scalar->isBFloatTy();
}

/// Whether an instruction computes, loads or stores f16 or bf16.
static bool usesShortFloats(const llvm::Module &module) {
  for (const llvm::Function &function : module)
    for (const llvm::Instruction &instruction : llvm::instructions(function)) {
      if (isShortFloat(instruction.getType()))
        return true;
      for (const llvm::Use &operand : instruction.operands())
        if (isShortFloat(operand->getType()))
          return true;
    }
  return false;
}

llvm::Error mlir::moe::addFloatConversions(llvm::Module &module) {
  if (!usesShortFloats(module))
    return llvm::Error::success();
  llvm::SMDiagnostic error;
  std::unique_ptr<llvm::Module> conversions =
      llvm::parseAssemblyString(kConversions, error, module.getContext());
  if (!conversions)
    return llvm::createStringError(error.getMessage());
  conversions->setTargetTriple(module.getTargetTriple());
  conversions->setDataLayout(module.getDataLayout());
  llvm::SmallVector<std::string> names;
  for (const llvm::Function &function : *conversions)
    names.push_back(function.getName().str());
  if (llvm::Linker::linkModules(module, std::move(conversions)))
    return llvm::createStringError(
        "cannot add the conversions of f16 and bf16");

  llvm::SmallVector<llvm::GlobalValue *> functions;
  for (const std::string &name : names) {
    llvm::Function *function = module.getFunction(name);
    function->setLinkage(llvm::GlobalValue::InternalLinkage);
    functions.push_back(function);
  }
  // The calls come with code generation: until then nobody uses them.
  llvm::appendToCompilerUsed(module, functions);
  return llvm::Error::success();
}
