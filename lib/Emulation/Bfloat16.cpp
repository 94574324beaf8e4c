//===- Bfloat16.cpp - What a host's run time may lack -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// LLVM calls __truncsfbf2 to round to bf16 on a host that has no instruction
// for it; libgcc has it from version 13 on. A bf16 is returned in the low half
// of a vector register, where a float is.
//
//===----------------------------------------------------------------------===//

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)

static float inLowHalf(uint32_t bits) {
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

/// To nearest, ties to even; a NaN stays one.

static float truncateToBfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return inLowHalf(bits >> 16 | 0x40);
  return inLowHalf((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

extern "C" __attribute__((weak)) float
moeEmuTruncSf(float x) __asm__("__truncsfbf2");
extern "C" float moeEmuTruncSf(float x) { return truncateToBfloat16(x); }

/// To odd first, so that the second rounding cannot be of a tie that was none.
extern "C" __attribute__((weak)) float
moeEmuTruncDf(double x) __asm__("__truncdfbf2");
extern "C" float moeEmuTruncDf(double x) {
  float once = static_cast<float>(x);
  uint32_t bits;
  memcpy(&bits, &once, 4);
  if (once == once && static_cast<double>(once) != x) {
    bool tooFar = (static_cast<double>(once) > x) == (x > 0);
    if (tooFar)
      --bits;
    bits |= 1;
  }
  memcpy(&once, &bits, 4);
  return truncateToBfloat16(once);
}

#endif // __x86_64__
