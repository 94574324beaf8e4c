//===- ElementType.h - Element types of tensors in files --------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The element types that tensor files and compiled functions share, their
/// names in each of the three worlds, and conversions of whole arrays.
/// Depends on LLVM Support only.
///
//===----------------------------------------------------------------------===//

#ifndef MOE_SUPPORT_ELEMENTTYPE_H
#define MOE_SUPPORT_ELEMENTTYPE_H

#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <optional>

namespace mlir::moe {

/// `Opaque` is a type that a file may hold but that we cannot compute with
/// (F4, C64, ...): such a tensor can be listed, but not read.
enum class ElementType : uint8_t {
  F64,
  F32,
  F16,
  BF16,
  F8E4M3FN,
  F8E5M2,
  I64,
  I32,
  I16,
  I8,
  U64,
  U32,
  U16,
  U8,
  Bool,
  Opaque,
};

/// Size of an element in bytes; 0 for `Opaque`.
uint64_t getElementSize(ElementType type);

bool isFloat(ElementType type);
/// Signed or unsigned, but not `Bool`.
bool isInteger(ElementType type);

/// The name in the IR, "bf16" or "ui8"; "opaque" for `Opaque`.
llvm::StringRef getName(ElementType type);

/// The `dtype` in a safetensors header, "BF16"; empty for `Opaque`.
llvm::StringRef getSafetensorsName(ElementType type);
std::optional<ElementType> parseSafetensorsName(llvm::StringRef name);

/// The little-endian `descr` in a .npy header, "<f4"; empty for the types that
/// numpy does not have (bf16, f8, `Opaque`).
llvm::StringRef getNumpyDescr(ElementType type);
std::optional<ElementType> parseNumpyDescr(llvm::StringRef descr);

/// What converting one element type to another does to the values.
enum class Conversion {
  Same,        ///< Nothing: the bytes are copied.
  Exact,       ///< Every value has its equal in the new type.
  Rounds,      ///< Floats, rounded to nearest even.
  Checked,     ///< Integers; a value that does not fit is an error.
  Unsupported, ///< Floats and integers are not mixed, nor anything opaque.
};
Conversion classifyConversion(ElementType from, ElementType to);

/// Converts `count` elements. Neither pointer needs any alignment; the arrays
/// must not overlap. Floats are rounded once, to nearest even, whatever the
/// pair (f64 to bf16 does not round to f32 on its way); a NaN stays a NaN.
/// Fails on an integer that does not fit, naming its index (the first element
/// has the index `firstIndex`), and on a pair that is `Unsupported`.
llvm::Error convertElements(ElementType from, const void *source,
                            ElementType to, void *destination, uint64_t count,
                            uint64_t firstIndex = 0);

/// The f32 with the value of the bf16 `bits`: exact.
inline float bf16ToF32(uint16_t bits) {
  return llvm::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// The bf16 nearest to `value`, ties to even; a NaN becomes a quiet NaN with
/// its upper payload. Without branches, so that loops vectorize.
inline uint16_t f32ToBF16(float value) {
  uint32_t bits = llvm::bit_cast<uint32_t>(value);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  uint32_t quietNaN = (bits >> 16) | 0x40;
  bool isNaN = (bits & 0x7fffffff) > 0x7f800000;
  return static_cast<uint16_t>(isNaN ? quietNaN : rounded);
}

/// The f32 with the value of the f16 `bits`: exact; a NaN becomes quiet.
float f16ToF32(uint16_t bits);

/// The f16 nearest to `value`, ties to even; a NaN becomes a quiet NaN with
/// its upper payload.
uint16_t f32ToF16(float value);

} // namespace mlir::moe

#endif // MOE_SUPPORT_ELEMENTTYPE_H
