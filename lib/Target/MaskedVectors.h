//===- MaskedVectors.h - Masked vectors of bf16 as integers -----*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_TARGET_MASKEDVECTORS_H
#define MOE_LIB_TARGET_MASKEDVECTORS_H

namespace llvm {
class Module;
} // namespace llvm

namespace mlir::moe {

/// Masked loads and stores of bf16 become those of 16-bit integers. LLVM takes
/// them apart, element by element, on machines with masks for 16 bits but
/// without arithmetic of bf16: AVX-512 before AVX512_BF16.
void maskBfloatsAsIntegers(llvm::Module &module);

} // namespace mlir::moe

#endif // MOE_LIB_TARGET_MASKEDVECTORS_H
