//===- Dequantize.h - The values of codes and scales ------------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_SUPPORT_DEQUANTIZE_H
#define MOE_LIB_SUPPORT_DEQUANTIZE_H

#include "moe/Support/ElementType.h"
#include "llvm/ADT/ArrayRef.h"
#include <vector>

namespace mlir::moe {

/// Two codes a byte, one scale a block.
inline constexpr int64_t kMxfp4BlockBytes = 16;
inline constexpr int64_t kMxfp4BlockValues = 32;

/// 2^(bits - 127), the value of an e8m0 scale of fp8: a subnormal for 0, and
/// for 255 infinity, as in transformers (OCP's MX format has a NaN there).
float e8m0ToF32(uint8_t bits);

/// Fills `factors` with as many scales of type `type`: a float, or U8 for
/// e8m0.
llvm::Error decodeScales(ElementType type, const uint8_t *scales,
                         llvm::MutableArrayRef<float> factors);

/// One row of an fp8 matrix: value i is codes[i] * factors[i / block], rounded
/// to `type`.
llvm::Error dequantizeFp8Row(ElementType codeType,
                             llvm::ArrayRef<uint8_t> codes,
                             llvm::ArrayRef<float> factors, int64_t block,
                             ElementType type, uint8_t *destination);

/// Reads mxfp4: all 16 codes under all 256 scales are in a table. As in
/// transformers the scale 255 is 2^128, so that 0.5 * 2^128 is finite (OCP's MX
/// format has a NaN there).
class Mxfp4Decoder {
public:
  /// Decodes to `type`, a float of 2, 4 or 8 bytes.
  static llvm::Expected<Mxfp4Decoder> create(ElementType type);

  /// Transposes rows `first` to `first + count` of a matrix of `rows` rows of
  /// `groups` blocks into `destination`, `32 * groups` rows of `rows` values.
  /// `blocks` and `scales` begin at row `first`.
  void decode(const uint8_t *blocks, const uint8_t *scales, int64_t groups,
              int64_t first, int64_t count, int64_t rows,
              uint8_t *destination) const;

private:
  Mxfp4Decoder() = default;
  template <typename Bits>
  void decodeAs(const uint8_t *blocks, const uint8_t *scales, int64_t groups,
                int64_t first, int64_t count, int64_t rows,
                uint8_t *destination) const;

  uint64_t width = 0;
  std::vector<uint8_t> table; // 256 x 16 values of `width` bytes.
};

} // namespace mlir::moe

#endif // MOE_LIB_SUPPORT_DEQUANTIZE_H
