//===- TensorMaps.h - What a tensor map says to the emulated copy engine -*- C++
//-*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATION_TENSORMAPS_H
#define MOE_LIB_EMULATION_TENSORMAPS_H

#include <cstdint>

namespace moe::emulation {

/// The 128 opaque bytes of a CUtensorMap, as the emulation encodes them.
struct TensorMap {
  static constexpr uint64_t kMagic = 0x6d6f65656d756d70;

  uint64_t magic;
  uint64_t base;
  uint64_t dims[5];
  uint64_t strides[4]; // bytes, of dimensions 1 to 4
  uint16_t box[5];
  uint8_t rank;
  uint8_t elementBytes;
  uint8_t swizzle; // 0 none, 1 32 bytes, 2 64, 3 128
  uint8_t type;    // CUtensorMapDataType
  uint8_t padding[26];

  uint64_t stride(uint32_t dim) const {
    return dim ? strides[dim - 1] : elementBytes;
  }
  uint32_t boxBytes() const {
    uint32_t bytes = elementBytes;
    for (uint32_t i = 0; i < rank; ++i)
      bytes *= box[i];
    return bytes;
  }
};
static_assert(sizeof(TensorMap) == 128, "the size of a CUtensorMap");

/// Where a byte lies in swizzled memory. The pattern goes by the address: rows
/// of 128 bytes, whose number (mod 8, 4, 2) is xored to the 16-byte chunks.
inline uint32_t swizzled(uint32_t offset, uint32_t swizzle) {
  uint32_t mask = (1u << swizzle) - 1;
  return offset ^ ((offset >> 7 & mask) << 4);
}

} // namespace moe::emulation

#endif // MOE_LIB_EMULATION_TENSORMAPS_H
