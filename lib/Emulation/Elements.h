//===- Elements.h - Element types of matrix instructions -*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATION_ELEMENTS_H
#define MOE_LIB_EMULATION_ELEMENTS_H

#include <cmath>
#include <cstdint>
#include <cstring>

namespace moe::emulation {

/// The pass writes these numbers (lib/Conversion/Emulation/EmulateNVVM.cpp).
enum class Element : uint32_t { BF16, F16, TF32, E4M3, E5M2 };

inline uint32_t bitsOf(Element type) {
  switch (type) {
  case Element::BF16:
  case Element::F16:
    return 16;
  case Element::TF32:
    return 32;
  case Element::E4M3:
  case Element::E5M2:
    break;
  }
  return 8;
}

/// A float of `exponent` and `mantissa` bits. Without infinities (e4m3) only
/// the pattern of all ones is NaN.
inline float smallFloat(uint32_t bits, int exponent, int mantissa,
                        bool infinities) {
  uint32_t sign = bits >> (exponent + mantissa) & 1;
  uint32_t e = bits >> mantissa & ((1u << exponent) - 1);
  uint32_t m = bits & ((1u << mantissa) - 1);
  int bias = (1 << (exponent - 1)) - 1;
  uint32_t allOnes = (1u << exponent) - 1;
  float value;
  if (e == allOnes && (infinities || m == (1u << mantissa) - 1))
    value = infinities && m == 0 ? INFINITY : NAN;
  else if (e == 0)
    value = std::ldexp(float(m), 1 - bias - mantissa);
  else
    value = std::ldexp(float(m | 1u << mantissa), int(e) - bias - mantissa);
  return sign ? -value : value;
}

/// The value of `bits`, as a tensor core reads it.
inline float decode(Element type, uint32_t bits) {
  switch (type) {
  case Element::F16:
    return smallFloat(bits & 0xffff, 5, 10, true);
  case Element::E4M3:
    return smallFloat(bits & 0xff, 4, 3, false);
  case Element::E5M2:
    return smallFloat(bits & 0xff, 5, 2, true);
  case Element::BF16:
    bits <<= 16;
    break;
  case Element::TF32: // the lower mantissa bits are not looked at
    bits &= 0xffffe000;
    break;
  }
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

} // namespace moe::emulation

#endif // MOE_LIB_EMULATION_ELEMENTS_H
